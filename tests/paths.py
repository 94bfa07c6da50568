"""Paths for every test that is about names: hostile ones, which nothing may accept, and odd ones, which all must."""

# Each is refused, by (at least) this rule. Keep at 60 or more.
HOSTILE = {
    "empty": [""],
    "not-utf-8": ["caf\udce9.txt", "\udc80", "a/\ud800/b", "x\udfff"],
    "nul": ["a\0b", "\0", "a.txt\0.png"],
    "control-character": [
        *("a\rb", "a\nb", "a\tb", "a\r\n", "\x01", "a\x1b[31mred", "bell\x07", "a\x7f", "back\x08space", "a\x0bb"),
        *("a\x0cb", "a\x85b", "a\x9b2J", "name\n"),
    ],
    "unc": ["//host/share/x", "\\\\host\\share\\x", "\\\\?\\C:\\x", "//", "\\\\.\\pipe\\x", "///etc/passwd"],
    "absolute": ["/etc/passwd", "/", "/a/../../b", "\\Windows\\x", "/.", "\\"],
    "drive": ["C:\\x", "C:/x", "c:x", "Z:", "C:..\\x", "a:b/c"],
    "traversal": [
        *("..", "../x", "a/../b", "a/..", "../../etc/passwd", "a/b/../../../c", "..\\x", "..\\..\\x", "a\\..\\..\\b"),
        *("a/..\\b", "a\\../b", "./../x", "..//x", "../", "a/b/.."),
    ],
    "dot-part": [".", "./a", "a/./b", "a/.", "././a"],
    "empty-part": ["a//b", "a///b", "a//b/c", "a/b//c"],
    "trailing-slash": ["a/", "a/b/", "a//", "./"],
    "too-long": ["a" * 1025, "é" * 513, "a/" * 512 + "b", "𝒳" * 257, "\ud800" * 342],
}

# Odd, but names of real files; none is refused.
ODD = [
    *("a", ".hidden", "..a", "...", "a..", "a/..b/c..", "a b", " a ", "a'b", 'a"b', "a,b;c", "-rf", "~", "~/x", "*?"),
    *("NA", "null", "nan", "00123", "1e5", "True", "=1+1", "@x", "%2e%2e/x", "a\\b", "a\\", ".\\a", "ab:c", "a/b:c"),
    *("été.txt", "日本語/ファイル", "🛰.fits", "e\u0301", "\u202egnp.exe", "\u2028", "ﬁ", "a\u00a0b", "a" * 1024),
    *(
        "é" * 512,
        "$(rm)",
        "`x`",
        "<b>",
        "&amp;",
        "[red]x[/red]",
        "con",
        "nul",
        "aux.txt",
        "a.",
        "...a/....",
        "a/.git/x",
    ),
]
