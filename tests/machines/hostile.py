"""Strings that break out of careless quoting: of the shell, YAML, JSON, templates, systemd, PowerShell."""

from __future__ import annotations

import string

#: A file that must never come to be.
TRAP = "/run/hosted-cp-trap"

_COMMANDS = [f"touch {TRAP}", "exit 7", "kill $$", "reboot"]
_AROUND = [
    "$({})", "`{}`", ";{};", "&& {}", "|| {}", "| {}", "& {}", "\n{}\n", "';{};'", '";{};"', "'\"'\"';{};#",
    "\\';{};#", "$'\\n{}'", "${{IFS}}{}", "#\n{}", "\r\n{}\r\n", ")\n{}\n(", "}}\n{}\n{{", "EOF\n{}\nEOF",
    "> /dev/null; {}", "<({})", "$(({}))", "!{}",
]  # fmt: skip
_PLAIN = [
    "", " ", "  two  ", "\t", "\n", "\n\n", "\r", "\r\n", "a\n", "\na", "a\n\n", "  indented\nless", "\tx\n y",
    "trailing \n", "a\\", "\\", "\\\\", "'", "''", '"', '""', "'\"'", "\"'\"", "\\'", '\\"', "`", "$", "$$", "${",
    "${}", "$x", "$(", "$1", "$@", "%", "%%", "%n", "%s%s%n", "100%", "%%%", "%i %h %u", "\\x41", "\\n", "\\t\\0",
    "\\u0041", "\\", "{", "}", "{{", "}}", "{%", "%}", "{#", "#}", "{{{", "{{{{", "{{ 7*7 }}",
    "{{ ds.meta_data.instance_id }}", "{{ v1.instance_id }}", "{% raw %}", "{% endraw %}",
    "{% for i in range(9) %}x{% endfor %}", "{{ ''.__class__.__mro__ }}", "{# comment #}", "## template: jinja",
    "## template: jinja\n#cloud-config\nruncmd: [reboot]", "#cloud-config", "#!/bin/sh\nreboot",
    "#include http://203.0.113.1/", "Content-Type: multipart/mixed; boundary=\"x\"\n\n--x", "---", "--- a", "...",
    "- a", "- [", "[a]", "[", "{a: b}", "a: b", "a:", ": a", ":", "?", "? a", "!",
    "!!python/object/apply:os.system [id]", "!!binary aGk=", "&a", "*a", "&a b", "<<: *x", "|", "|-", ">", ">-",
    "%YAML 1.2", "@", "`a`", "a #b", "a # b", "#", "# a", "a, b", "=", "~", "null", "Null", "NULL", "true", "True",
    "false", "yes", "no", "on", "off", "y", "n", "Y", "N", "0", "00", "0644", "0o644", "1", "-1", "+1", "1.0", "1e3",
    "1_000", ".5", ".inf", ".nan", "-.inf", "0x1f", "12:30:45", "1:1", "2026-11-21", "2026-11-21T00:00:00Z", "=<",
    "<", ">", "<>", "a<b", "a>b", "*", "?", "[a-z]*", "~", "~root", "a=b", "-", "--", "-e", "-n", "--help", "-rf /",
    "../../etc/passwd", "a/../b", ";", "&", "|", "&&", "||", ";;", "(", ")", "()", "(:", "!", "!!", "^", "@",
    "@(a|b)", "a{b,c}d", "{1..9}", "\u00e9", "\u00fc\u00f1\u00ed", "\u65e5\u672c\u8a9e", "\U0001f600",
    "\U0001f468\u200d\U0001f469", "\u0085", "a\u0085b", "\u2028", "a\u2028b\u2029c", "\u00a0", "\ufeff", "\ufeffa",
    "\u200b", "\u202e", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\u0301", "\x01", "\x07", "\x08", "\x0b", "\x0c",
    "\x1b[31m", "\x1f", "\x7f", "\x80", "\x9b", "a\x1ab", "\u2018", "\u2019", "\u201a", "\u201b", "\u201c", "\u201d",
    "\u2019; reboot #", "';Restart-Computer;'", "$(Restart-Computer)", '"@\nRestart-Computer\n@"',
    "'@\nRestart-Computer\n'@", "`nRestart-Computer", "</powershell>", "<powershell>", "</script>", "<!--", "]]>",
    "&lt;", "%PATH%", "%25", "data:,x", "x" * 300, " x" * 200, "'" * 50, "\\" * 51,
]  # fmt: skip

#: All of them, none twice; no NUL, which can stand neither in an argument nor in a path.
PAYLOADS: tuple[str, ...] = tuple(
    dict.fromkeys([*_PLAIN, *(around.format(command) for around in _AROUND for command in _COMMANDS)])
)

#: Those that can stand in an argument of a service of k0s.
SPEAKABLE = tuple(
    each
    for each in PAYLOADS
    if each.strip() and not set(each) & set("\"'\\$%`") and each.isprintable() and each.isascii()
)

#: Every character of ASCII that can stand there.
HARMLESS = "".join(each for each in string.printable if each.isprintable() and each not in "\"'\\$%`")
