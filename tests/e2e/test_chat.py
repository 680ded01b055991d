"""chat: from a pipe, and on a terminal made by pty."""

import os
import pty
import re
import select
import signal
import subprocess
import time

from conftest import PROGRAM, bittern, clean_environment


def chat(*lines: str, check: int = 0, args=()):
    return bittern("chat", "--temperature", 0, "--max-tokens", 40, *args, stdin="\n".join(lines) + "\n", check=check)


def test_replies_come_in_order():
    assert len(chat("Hello!", "What is 2 plus 3?").stdout.strip().splitlines()) >= 2


def test_regen_repeats_a_greedy_reply():
    first, second = chat("Hello!", "/regen").stdout.strip().splitlines()[:2]
    assert first == second


def test_clear_forgets():
    lines = chat("Hello!", "/clear", "Hello!").stdout.strip().splitlines()
    assert lines[0] == lines[-1]


def test_block_of_lines_is_one_message():
    assert chat('"""Hello', 'there!"""').stdout.strip()


def test_set_and_show():
    assert "temperature 0.5" in chat("/set temperature 0.5", "/show").stdout


def test_unknown_setting_suggests_and_becomes_the_status():
    result = chat("/set temprature 1", check=2)
    assert "temperature" in result.stderr


def test_unknown_command():
    assert "/help" in chat("/nonsense", check=2).stderr


def test_stats_after_a_reply():
    assert "tok/s" in chat("Hello!", "/stats").stdout


class Terminal:
    """The program on a pseudo-terminal."""

    def __init__(self, *args: str):
        self.master, slave = pty.openpty()
        env = clean_environment() | {"TERM": "xterm", "HOME": "/nonexistent"}
        self.process = subprocess.Popen([str(PROGRAM), *args], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
                                        preexec_fn=lambda: os.close(self.master))
        os.close(slave)
        self.seen = ""

    def expect(self, pattern: str, timeout: float = 60):
        end = time.monotonic() + timeout
        while not re.search(pattern, self.seen):
            assert time.monotonic() < end, f"{pattern!r} not in {self.seen!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    break
        found = re.search(pattern, self.seen)
        assert found, f"{pattern!r} not in {self.seen!r}"
        self.seen = self.seen[found.end():]

    def send(self, text: str):
        os.write(self.master, text.encode())


def test_terminal_chat_and_interrupt():
    terminal = Terminal("chat", "--backend", "ref", "--ignore-eos", "--max-tokens", "900")
    terminal.expect(">>> ")
    terminal.send("Tell me a story.\r")
    time.sleep(3)
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.expect(r">>> ")
    terminal.send("/bye\r")
    assert terminal.process.wait(timeout=30) == 0
