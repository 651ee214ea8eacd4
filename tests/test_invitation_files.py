"""Files of invited shoppers as spreadsheets write them: read, or refused with each bad line and what to do."""

import tracemalloc
from io import BytesIO

import pytest

from sales import csv_lines, email_codes, invitation_files, shoppers
from sales.invitation_files import BadFile, BadLine

pytestmark = pytest.mark.pure


def names(content: bytes) -> list[str]:
    file = BytesIO(content)
    named = invitation_files.check(file).named
    found = list(invitation_files.user_ids(file))
    assert len(found) == named
    return found


def remark(content: bytes) -> str:
    return invitation_files.check(BytesIO(content)).remark()


def refusal(content: bytes) -> BadFile:
    with pytest.raises(BadFile) as refused:
        invitation_files.check(BytesIO(content))
    return refused.value


@pytest.mark.parametrize(
    "content",
    [
        b"ada@example.com\nbob@example.com",
        b"ada@example.com\r\nbob@example.com\r\n",
        b"\n\nada@example.com\n\n  \nbob@example.com\n\n",
        b'"ada@example.com"\n"bob@example.com"\n',
        b"\xef\xbb\xbfada@example.com\nbob@example.com\n",
        b"email\nada@example.com\nbob@example.com\n",
        b"\xef\xbb\xbfE-Mail\nada@example.com\nbob@example.com\n",
        b"name,Email,age\nAda,ada@example.com,36\nBob,bob@example.com\n",
        b'name;EMAIL\n"Lovelace; Ada";ada@example.com\nBob;bob@example.com\n',
        b"user_id\tname\nada@example.com\tAda\nbob@example.com\tBob\n",
        b"city,address\n,ADA@example.com\nBerne, bob@example.com \n",
        b"ada@example.com,,\n,bob@example.com,\n",
        b"ada@example.com\rbob@example.com\r",
        b"email,name\rada@example.com,Ada\rbob@example.com,Bob",
        b"ada@example.com\n\rbob@example.com\r\n",
        b"sep=;\r\nname;email\r\nAda, the first;ada@example.com\r\nBob;bob@example.com\r\n",
        b'\xef\xbb\xbf"sep=\t"\nemail\tname\nada@example.com\tAda; the first; indeed\nbob@example.com\tBob\n',
        b'"name, or two";email\nAda;ada@example.com\nBob;bob@example.com\n',
        b"\n,,\nemail,name\nada@example.com,Ada\n,\nbob@example.com,Bob\n",
        b"# from the shop\nemail\nada@example.com\nbob@example.com\n",
        b"#,Email\n#1,ada@example.com\n#2,bob@example.com\n",
        b"ada@example.com;\nbob@example.com;\n",
        b"ada@example.com\nbob@example.com;\n",
        b'Ada Lovelace <ada@example.com>\n"Lovelace, Bob" <BOB@example.com>,\n',
        b"Lovelace, Ada <ada@example.com>\n<bob@example.com>\n",
        b"name,email\nA,Ada <mailto:ada@example.com>\nB,MailTo:bob@example.com\n",
        b'email,name\n"ada@example.com","Ada ""the Countess"" Lovelace" \n"bob@example.com", "Bob, too"\n',
    ],
)
def test_addresses_are_found_in_every_spreadsheet_format(content: bytes):
    assert names(content) == ["ada@example.com", "bob@example.com"]


def test_names_are_in_the_one_spelling_of_shoppers():
    assert names("ＡDA@EXAMPLE.COM\nstraße@example.com\n".encode()) == ["ada@example.com", "strasse@example.com"]


def test_repeated_names_are_accepted():
    assert names(b"ada\nADA\n") == ["ada", "ada"]


def test_each_bad_line_is_reported_with_number_and_reason():
    refused = refusal(b"email,name\nada@example.com,Ada\n,Bob\nc\x07d,Cyd\n" + b"d" * 255 + b",Dan\ne\xff,Eve\n")

    assert "4 lines name nobody" in str(refused)
    assert [line.number for line in refused.lines] == [3, 4, 5, 6]
    words = ("empty", "control", "longer than 254", "not UTF-8")
    assert all(word in line.reason for word, line in zip(words, refused.lines, strict=True))


def test_only_the_first_20_bad_lines_are_listed():
    refused = refusal(b"ada\n" + b"\x07\n" * 1_000)

    assert "1,000 lines name nobody" in str(refused)
    assert [line.number for line in refused.lines] == list(range(2, 22))


def test_a_line_with_several_columns_wants_a_header():
    assert refusal(b"ada@example.com\nbob@example.com,Bob\n").lines == [
        BadLine(2, "It has several columns: write one address on each line, or a header.")
    ]
    assert "none is called" in str(refusal(b"name,contact\nAda,ada@example.com\n"))


@pytest.mark.parametrize(
    "header",
    [
        "EMAIL",
        "Email Address",
        "E-mail address:",
        "E-Mail-Adresse",
        "e\u2011mail",
        "mail",
        "User ID",
        "user_id",
        "Adresse",
    ],
)
def test_headers_are_known_in_their_usual_spellings(header: str):
    assert names(f"{header}\nada@example.com\n".encode()) == ["ada@example.com"]
    assert names(f"name;{header}\nAda;ada@example.com\n".encode()) == ["ada@example.com"]


def test_the_most_telling_column_is_used_unless_ambiguous():
    assert names(b"user_id,address,E-Mail\n7,Berne,ada@example.com\n") == ["ada@example.com"]
    assert "Several columns" in str(refusal(b"email,E-Mail\nada@example.com,bob@example.com\n"))


@pytest.mark.parametrize(
    "line",
    [
        *("ada@example", "@example.com", "ada@@example.com", "ada@example.com.", "ada@example.com bob@example.com"),
        *(
            "ada@-example.com",
            "a da@example.com",
            "ada.@example.com",
            ".ada@example.com",
            "a..da@example.com",
            "ada＠example",
        ),
        *("Ada <ada@example>", "mailto:ada@example", "ada@example.com; bob@example.com"),
    ],
)
def test_an_invalid_address_is_refused_by_its_line(line: str):
    assert refusal(f"bob@example.com\n{line}\ncyd\n".encode()).lines == [
        BadLine(2, "This is not an e-mail address. Write it like ada@example.com.")
    ]


def test_an_undeliverable_address_is_refused_with_the_reason():
    assert refusal("jürgen@example.com\nada@☃.example\n".encode()).lines == [
        BadLine(1, email_codes.NOT_SENT_TO),
        BadLine(2, email_codes.NO_DOMAIN),
    ]


@pytest.mark.parametrize("local", ["a", "a.d-a_2+b", "ada--", "-ada", "a!da", "a'da", '"a da"', "x" * 64, "x" * 65])
@pytest.mark.parametrize(
    "domain", ["example.com", "localhost", "[127.0.0.1]", "bücher.example", "a_b.example", "b.c-", ""]
)
def test_addresses_are_those_to_which_a_code_can_be_sent(local: str, domain: str):
    address = f"{local}@{domain}"
    try:
        expected = email_codes.read_address(address)
    except shoppers.InvalidShopper:
        assert refusal(f"email\n{_quoted(address)}".encode()).lines
    else:
        assert names(f"email\n{_quoted(address)}".encode()) == [expected]


def _quoted(cell: str) -> str:
    doubled = cell.replace('"', '""')
    return f'"{doubled}"'


def test_names_that_are_no_addresses_are_counted_with_examples():
    assert remark(b"ada@example.com\n") == ""
    assert remark(b"ada@example.com\nBob Example.com\n") == (
        "1 of those in the file is no e-mail address, “bob example.com”: it is only good as a name that your partner "
        "vouches for."
    )
    assert remark(b"user_id\n" + b"a" * 200 + b"\n" + b"b\n" * 2_000) == (
        f"2,001 of those in the file are no e-mail addresses, e.g. “{'a' * 40}…”, “b”: they are only good as names "
        "that your partner vouches for."
    )


def test_hash_lines_without_a_header_are_counted_as_comments():
    plain = b"# VIPs\nada@example.com\n#bob@example.com\n"

    assert names(plain) == ["ada@example.com"]
    assert remark(plain) == "2 lines that begin with “#” were left out."
    assert remark(b"#\nada@example.com\n") == "1 line that begins with “#” was left out."
    assert names(b"user_id\n#4711\n") == ["#4711"]
    assert "names nobody" in str(refusal(b"# ada@example.com\n"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_with_what_to_do(encoding: str):
    assert "Save it as “CSV UTF-8”" in str(refusal("ada@example.com\n".encode(encoding)))


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"email\n", b"email,name\n,\n"])
def test_a_file_that_names_nobody_is_refused(content: bytes):
    assert "names nobody" in str(refusal(content))


def test_a_file_without_line_ends_is_refused_in_bounded_memory():
    content = b"a" * 10_000_000
    tracemalloc.start()
    refused = refusal(content)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert refused.lines == [
        BadLine(1, "It is longer than 10,000 characters: leave out all columns but the addresses.")
    ]
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_after_one_that_is_too_long_keep_their_numbers(end: bytes):
    rows = [b"email,notes", b"ada@example.com," + b"see bob@example.com " * 2_000, b"bob@example.com", b"bob@", b"cyd"]

    assert [line.number for line in refusal(end.join(rows)).lines] == [2, 4]
    assert [line.number for line in refusal(end.join(rows[1:])).lines] == [1, 3]


def test_a_line_may_be_as_long_as_the_longest():
    rest = csv_lines.LONGEST_LINE - len("ada@example.com,")

    assert names("email,notes\nada@example.com,{}\nbob@example.com".format("é" * rest).encode()) == [
        *("ada@example.com", "bob@example.com")
    ]
    assert refusal("email,notes\nada@example.com,{}\n".format("é" * (rest + 1)).encode()).lines[0].number == 2


@pytest.mark.parametrize(
    ("begin", "after"),
    [
        (b'email,name\nada@example.com,"Ada\n', b"bob@example.com,Bob\n"),
        (b'name,email\n"Ada,ada@example.com\n', b"Bob,bob@example.com\n"),
        (b'email;name\r\nada@example.com;"Ada\r\n', b'bob@example.com;"Bob"\r\n'),
        (b'email,notes\nada@example.com,"She likes\n', b'trains"\nbob@example.com,Bob\n'),
        (b'ada@example.com\n"bob@example.com\n', b"cyd@example.com\n"),
        (b'ada\n"\n', b"cyd\n"),
        (b'ada\n"Lovelace, Bob <bob@example.com>\n', b"Cyd <cyd@example.com>\n"),
    ],
)
def test_an_unclosed_quote_is_refused_by_its_first_line(begin: bytes, after: bytes):
    for rest in (b"", after, after * 500):
        refused = refusal(begin + rest)

        assert refused.lines[0].number == 2
        assert refused.lines[0].reason.startswith("A quotation mark is open where the line ends.")


def test_each_quote_that_is_wrong_is_named():
    refused = refusal(b'email,name\na@example.com,"Ada\nb@example.com,Bob\nc@example.com,"C"yd,\nd@example.com,"\n')

    assert [line.number for line in refused.lines] == [2, 4, 5]
    assert refused.lines[1].reason.startswith("After a cell in quotation marks comes more text.")


def test_a_header_with_an_open_quote_is_refused():
    assert refusal(b'email,"name\nada@example.com,Ada\n').lines[0].number == 1


def test_a_comma_in_a_name_does_not_shift_the_address():
    assert refusal(b"name,email\nAda,ada@example.com\nLovelace, Bob,bob@example.com\n").lines == [
        BadLine(3, "It has more cells than the header: write a cell with the separator in it in quotation marks.")
    ]
