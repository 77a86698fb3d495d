"""Injected troubles, one file each, and the timetable that starts and heals them.

A fault knows its target and how to heal; when it happens is the timetable's business, and what
it did to the votes is the audit's.
"""
