"""What `pollstorm doctor` says of a machine, whole or not."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from harness.cli import doctor as doctor_verb
from harness.cli.doctor import Finding, State, doctor, print_findings
from harness.errors import Exit


def test_a_machine_without_servers_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("harness.services.programs.SYSTEM_FOLDERS", ())
    answer = CliRunner().invoke(doctor, standalone_mode=False)
    assert answer.return_value == Exit.FAILED
    lines = answer.output.splitlines()
    assert "missing memcached: not found: apt-get install memcached" in lines
    assert "missing mariadbd: not found: apt-get install mariadb-server" in lines
    assert any(line.startswith("weak chromium") for line in lines)


def test_an_old_memcached_is_no_memcached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "memcached"
    program.write_text("#!/bin/sh\necho memcached 1.5.22\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    by_subject = {finding.subject: finding for finding in doctor_verb.examine()}
    expected = Finding(
        State.MISSING, "memcached", "memcached 1.5.22", "install memcached 1.6 or later"
    )
    assert by_subject["memcached"] == expected


def test_a_machine_with_everything_can_run() -> None:
    answer = CliRunner().invoke(doctor, standalone_mode=False)
    assert answer.return_value == Exit.OK, answer.output
    assert "ok memcached: memcached 1." in answer.output


def test_a_terminal_shows_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [Finding(State.WEAK, "cores", "1 [odd]", "measure on two or more")]
    print_findings(findings, Console(force_terminal=True, width=100, color_system=None))
    shown = capsys.readouterr().out
    assert "what to do" in shown
    assert "1 [odd]" in shown
