"""The load: when voters come, how each behaves, and the processes that play them.

`arrivals` turns a rate curve into planned times, `request` and `answer` are what goes over the
wire, `voter` is the Locust user, `generator` one Locust process, `fleet` all of them.
`traffic` reads a curve from a log. By an `order` of the fleet a `master` has a `worker` on each
of several machines start the generators there.
"""
