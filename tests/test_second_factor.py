"""The second factor: set up, asked for, lost and found, as people meet it."""

import html
import re
import threading
import time
from base64 import b32decode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import Client
from django_otp.oath import hotp
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import Page, expect
from pytest_django import Settings

from flashsale.rates import Rate
from sales import second_factor
from tests import test_secure
from tests.browsers import Visitor
from tests.test_accessibility import violations
from tests.test_desk import together

pytestmark = pytest.mark.usefixtures("static_files")

PAGE = "/admin/second-factor/"
PASSWORD = "correct horse battery staple"
PHONE = {"width": 390, "height": 844}
STEP_SECONDS = 30


@pytest.fixture
def olga(db: None, settings: Settings) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # real ones take long
    olga = User.objects.create_user("olga", password=PASSWORD, is_staff=True)
    olga.groups.add(Group.objects.get(name="operator"))
    return olga


@pytest.fixture
def protected(olga: User) -> tuple[User, list[str]]:
    """Somebody whose second factor is on, and the backup codes."""
    second_factor.begin(olga)
    _, codes = second_factor.turn_on(olga, next_code(olga))
    return olga, codes


def next_code(person: User) -> str:
    """Return the code that the person's app shows after the one that was taken last."""
    device = TOTPDevice.objects.get(user=person)
    return code_of(device.bin_key, device.last_t + 1)


def code_of(key: bytes, at_least: int = 0) -> str:
    return f"{hotp(key, max(at_least, int(time.time()) // STEP_SECONDS)):06d}"


def wrong_code(person: User) -> str:
    """Return a code that is not one of those that are taken these minutes."""
    device, now = TOTPDevice.objects.get(user=person), int(time.time()) // STEP_SECONDS
    right = {hotp(device.bin_key, now + steps) for steps in range(-5, 6)}
    return next(f"{number:06d}" for number in range(1_000_000) if number not in right)


def forgive() -> None:
    """Let nobody wait any more after a wrong code."""
    for model in (TOTPDevice, StaticDevice):
        model.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)


def sign_in(client: Client, code: str = "", password: str = PASSWORD) -> str:
    """Sign in, and return the page that follows."""
    form = {"username": "olga", "password": password, "code": code, "next": "/admin/"}
    return text(client.post("/admin/login/", form, follow=True))


def signed_in(code: str) -> Client:
    client = Client()
    assert is_in(sign_in(client, code))
    return client


def is_in(page: str) -> bool:
    return "The operator's desk</h1>" in page


def post(client: Client, step: str, code: str = "") -> str:
    return text(client.post(PAGE, {"step": step, "code": code}, follow=True))


def text(response: Any) -> str:
    return html.unescape(response.content.decode())


def backup_codes(page: str) -> list[str]:
    return re.findall(r"<code>([a-z2-7]{4}(?:-[a-z2-7]{4}){3})</code>", page)


def history(person: User) -> list[str]:
    entries = LogEntry.objects.filter(object_id=str(person.pk)).order_by("id")
    return [f"{entry.user}: {entry.change_message}" for entry in entries]


def test_without_a_second_factor_the_password_is_enough(olga: User):
    page = sign_in(Client())

    assert is_in(page)
    assert f'<a href="{PAGE}">Second factor</a>' in page


def test_setup_needs_a_code_and_gives_ten_backup_codes(olga: User):
    client = signed_in("")

    before = post(client, "begin")
    shown = re.search(r'<code class="secret">([A-Z2-7 ]+)</code>', before)
    after = post(client, "on", code_of(b32decode(shown[1].replace(" ", "")))) if shown else ""

    assert "<svg" in before
    assert len(set(backup_codes(after))) == second_factor.BACKUP_CODES
    assert second_factor.is_on(olga)
    assert history(olga) == ["olga: Turned the second factor on."]
    assert is_in(text(client.get("/admin/"))), "who has just typed a code goes on"


def test_backup_codes_are_shown_once_and_kept_as_digests(olga: User):
    client = signed_in("")
    post(client, "begin")
    codes = backup_codes(post(client, "on", next_code(olga)))

    later = text(client.get(PAGE))

    assert "Backup codes left: 10." in later
    assert backup_codes(later) == []
    kept = set(StaticToken.objects.values_list("token", flat=True))
    assert not {code[:length].replace("-", "") for code in codes for length in (4, 19)} & kept


def test_a_wrong_first_code_turns_nothing_on(olga: User):
    client = signed_in("")
    post(client, "begin")

    page = post(client, "on", wrong_code(olga))

    assert "This code is not right." in page
    assert not second_factor.is_on(olga)
    assert is_in(sign_in(Client())), "an app that was never confirmed locks nobody out"


def test_with_it_on_the_password_is_not_enough(protected: tuple[User, list[str]]):
    olga, _ = protected

    without, with_code = sign_in(Client()), sign_in(Client(), next_code(olga))

    assert "This account has a second factor: type the code that your app shows, too" in without
    assert not is_in(without)
    assert is_in(with_code)


def test_a_wrong_password_reveals_nothing_about_the_code(protected: tuple[User, list[str]]):
    olga, _ = protected
    code = next_code(olga)

    page = sign_in(Client(), code, password="wrong")

    assert "second factor:" not in page
    assert is_in(sign_in(Client(), code)), "a wrong password uses no code up"


@pytest.mark.parametrize("spelling", [str, lambda code: f" {code[:3]} {code[3:]} "])
def test_a_code_is_taken_as_apps_show_it(protected: tuple[User, list[str]], spelling: Any):
    olga, _ = protected

    assert is_in(sign_in(Client(), spelling(next_code(olga))))


def test_a_wrong_code_is_refused_and_makes_wait(protected: tuple[User, list[str]]):
    olga, _ = protected

    wrong = sign_in(Client(), wrong_code(olga))
    device = TOTPDevice.objects.filter(user=olga)
    device.update(throttling_failure_count=6)  # half a minute, in place of the second that a slow machine takes
    too_early = sign_in(Client(), next_code(olga))
    device.update(throttling_failure_timestamp=datetime.now(UTC) - timedelta(minutes=1))

    assert "This code is not right, or was used already." in wrong
    assert "After a wrong code there is a wait. Try again in " in too_early
    assert is_in(sign_in(Client(), next_code(olga)))


def test_a_code_is_taken_once(protected: tuple[User, list[str]]):
    olga, _ = protected
    code = next_code(olga)

    first, second = sign_in(Client(), code), sign_in(Client(), code)

    assert is_in(first)
    assert "was used already" in second
    assert not is_in(second)


def let_in(*attempts: Callable[[], object]) -> int:
    """Return how many of those who try at once are let in."""
    ready, answers = threading.Barrier(len(attempts)), []

    def run(attempt: Callable[[], object]) -> None:
        ready.wait()
        with suppress(second_factor.Wrong):
            answers.append(attempt())

    together(*(partial(run, attempt) for attempt in attempts))
    return sum(map(bool, answers))


@pytest.mark.pure
@pytest.mark.parametrize("is_backup", [False, True])
def test_only_one_of_simultaneous_codes_is_accepted(transactional_db: None, is_backup: bool):
    olga = User.objects.create_superuser("olga")
    second_factor.begin(olga)
    _, codes = second_factor.turn_on(olga, next_code(olga))

    for backup_code in codes[:5]:
        code = backup_code if is_backup else next_code(olga)
        assert let_in(*[partial(second_factor.check, olga, code)] * 4) == 1
        forgive()


@pytest.mark.pure
def test_control_without_the_lock_everybody_is_let_in(transactional_db: None):
    """The same, over a twin that decides by what it has read earlier."""
    olga = User.objects.create_superuser("olga")
    second_factor.begin(olga)
    second_factor.turn_on(olga, next_code(olga))
    code = next_code(olga)
    read_earlier = [TOTPDevice.objects.get() for _ in range(4)]

    assert let_in(*[partial(device.verify_token, code) for device in read_earlier]) == 4


def test_a_backup_code_is_taken_once_however_it_is_typed(protected: tuple[User, list[str]]):
    _, codes = protected

    first, second = sign_in(Client(), codes[3]), sign_in(Client(), codes[3].upper())
    forgive()

    assert is_in(first)
    assert not is_in(second)
    assert is_in(sign_in(Client(), codes[4].upper().replace("-", " ")))


def test_wrong_app_codes_do_not_lock_backup_codes(protected: tuple[User, list[str]]):
    olga, codes = protected

    sign_in(Client(), wrong_code(olga))

    assert is_in(sign_in(Client(), codes[0]))


def test_another_persons_backup_code_is_refused(protected: tuple[User, list[str]]):
    pia = User.objects.create_user("pia", is_staff=True)
    second_factor.begin(pia)
    _, hers = second_factor.turn_on(pia, next_code(pia))

    assert not is_in(sign_in(Client(), hers[0]))


def test_guessed_codes_count_under_the_limit_of_the_log_in(protected: tuple[User, list[str]], settings: Settings):
    settings.ADDRESS_RATE = Rate(100, 1)
    olga, codes = protected
    guess = {"username": "olga", "password": PASSWORD, "code": wrong_code(olga)}

    statuses = [Client().post("/admin/login/", guess).status_code for _ in range(6)]
    then = Client().post("/admin/login/", {**guess, "code": codes[0]})

    assert statuses == [200] * 5 + [429]
    assert then.status_code == 429


@pytest.mark.pure
def test_a_session_that_was_opened_without_the_code_sees_nothing(protected: tuple[User, list[str]]):
    olga, _ = protected
    client = Client()
    client.force_login(olga)

    answers = [client.get(path) for path in ("/admin/", "/admin/sales/sale/", "/admin/password_change/", PAGE)]

    assert [answer.status_code for answer in answers] == [302] * 4
    assert {answer["Location"].partition("?")[0] for answer in answers} == {"/admin/login/"}
    assert "without the code of your second factor" in text(client.get("/admin/login/"))


def test_turning_it_on_asks_other_sessions_for_a_code(olga: User):
    here, elsewhere = signed_in(""), signed_in("")
    post(here, "begin")

    post(here, "on", next_code(olga))

    assert here.get("/admin/").status_code == 200
    assert elsewhere.get("/admin/").status_code == 302


def test_turning_it_off_asks_for_a_code(protected: tuple[User, list[str]]):
    olga, _ = protected
    client = signed_in(next_code(olga))

    refused = post(client, "off"), post(client, "off", wrong_code(olga))
    stays_on = second_factor.is_on(olga)
    forgive()
    done = post(client, "off", next_code(olga))

    assert "Type the code that your app shows." in refused[0]
    assert "This code is not right" in refused[1]
    assert stays_on
    assert "Your second factor is off." in done
    assert is_in(sign_in(Client()))
    assert history(olga)[-1] == "olga: Turned the second factor off."


def test_new_backup_codes_take_the_place_of_the_earlier_ones(protected: tuple[User, list[str]]):
    olga, codes = protected
    client = signed_in(codes[0])

    renewed = backup_codes(post(client, "renew", next_code(olga)))

    assert len(renewed) == second_factor.BACKUP_CODES
    assert client.get("/admin/").status_code == 200, "a session that a backup code opened goes on"
    assert is_in(sign_in(Client(), renewed[0]))
    assert not is_in(sign_in(Client(), codes[1]))


def test_beginning_again_keeps_an_active_second_factor(protected: tuple[User, list[str]]):
    olga, _ = protected
    client = signed_in(next_code(olga))

    page = post(client, "begin")

    assert "Your second factor is on" in page
    assert TOTPDevice.objects.filter(user=olga).count() == 1


def test_when_required_it_is_set_up_before_anything_else(olga: User, settings: Settings):
    settings.SECOND_FACTOR_IS_REQUIRED = True
    client = Client()

    first = sign_in(client)
    elsewhere = client.get("/admin/sales/sale/", follow=True)
    post(client, "begin")
    post(client, "on", next_code(olga))

    assert "Everybody needs a second factor here." in first
    assert elsewhere.redirect_chain[-1][0] == PAGE
    assert client.get("/admin/sales/sale/").status_code == 200


def test_users_without_it_can_still_sign_out(olga: User, settings: Settings):
    settings.SECOND_FACTOR_IS_REQUIRED = True
    client = Client()
    sign_in(client)

    left = client.post("/admin/logout/")

    assert left["Location"] == "/admin/login/"
    assert "_auth_user_id" not in client.session


def test_when_required_turning_it_off_leads_to_setup(protected: tuple[User, list[str]], settings: Settings):
    settings.SECOND_FACTOR_IS_REQUIRED = True
    olga, codes = protected
    client = signed_in(next_code(olga))

    page = post(client, "off", codes[0])

    assert "Everybody needs a second factor here." in page
    assert client.get("/admin/").status_code == 302


@pytest.fixture
def administrator(db: None) -> Client:
    boss = User.objects.create_user("boss", is_staff=True)
    boss.groups.add(Group.objects.get(name="administrator"))
    client = Client()
    client.force_login(boss)
    return client


def test_an_administrator_takes_a_lost_one_away(administrator: Client, protected: tuple[User, list[str]]):
    olga, _ = protected
    address = f"/admin/auth/user/{olga.pk}/second-factor/"

    form = text(administrator.get(f"/admin/auth/user/{olga.pk}/change/"))
    asked = text(administrator.get(address))
    still_on = second_factor.is_on(olga)
    done = text(administrator.post(address, follow=True))

    assert f'href="{address}"' in form
    assert "Yes, take it away" in asked
    assert still_on
    assert "From now on olga signs in with the password alone" in done
    assert is_in(sign_in(Client()))
    assert "boss: Took the second factor away: it was lost." in history(olga)


@pytest.mark.pure
def test_the_list_of_people_shows_each_second_factor(administrator: Client, protected: tuple[User, list[str]]):
    rows = re.findall(r'field-username"><a href="[^"]+">(\w+)<.*?alt="(True|False)"></td></tr>', people(administrator))

    assert rows == [("boss", "False"), ("olga", "True")]


def people(client: Client) -> str:
    return text(client.get("/admin/auth/user/"))


@pytest.mark.pure
def test_of_ones_own_a_code_is_asked(administrator: Client):
    boss = User.objects.get(username="boss")

    response = administrator.post(f"/admin/auth/user/{boss.pk}/second-factor/")

    assert response["Location"] == PAGE


@pytest.mark.pure
def test_an_operator_cannot_take_anothers_second_factor_away(protected: tuple[User, list[str]]):
    olga, _ = protected
    pia = User.objects.create_user("pia", is_staff=True)
    pia.groups.add(Group.objects.get(name="operator"))
    client = Client()
    client.force_login(pia)

    response = client.post(f"/admin/auth/user/{olga.pk}/second-factor/")

    assert response.status_code == 403
    assert second_factor.is_on(olga)


@pytest.mark.pure
def test_nobody_sees_anothers_secret(administrator: Client, protected: tuple[User, list[str]]):
    olga, _ = protected
    device = TOTPDevice.objects.get(user=olga)
    paths = (f"otp_totp/totpdevice/{device.pk}/qrcode/", f"otp_totp/totpdevice/{device.pk}/change/", "otp_static/")

    assert {administrator.get(f"/admin/{path}").status_code for path in paths} == {404}


@pytest.mark.pure
def test_shoppers_accounts_have_no_page_of_it(db: None):
    client = Client()
    client.force_login(User.objects.create_user("shopper"))

    assert client.get(PAGE)["Location"].startswith("/admin/login/")
    assert client.post(PAGE, {"step": "begin"}).status_code == 302
    assert not TOTPDevice.objects.exists()


def test_the_command_lets_in_a_user_without_any_code(
    protected: tuple[User, list[str]], capsys: pytest.CaptureFixture[str]
):
    olga, _ = protected

    call_command("forget_second_factor", "olga")
    call_command("forget_second_factor", "olga")

    first, second = capsys.readouterr().out.splitlines()
    assert first == "olga signs in with the password alone, until a new second factor is set up."
    assert second == "olga has no second factor: there is nothing to take away."
    assert is_in(sign_in(Client()))
    assert history(olga)[-1] == "olga: The second factor was taken away by manage.py forget_second_factor."


@pytest.mark.pure
def test_the_command_names_an_unknown_user(db: None):
    with pytest.raises(CommandError, match="Nobody signs in as 'nobody'"):
        call_command("forget_second_factor", "nobody")


@pytest.mark.parametrize("value", ["optional", "Required"])
def test_the_setting_takes_two_words(value: str):
    assert test_secure.run_manage("check", SECOND_FACTOR=value).returncode == 0


def fill_in(page: Page, code: str = "") -> None:
    page.get_by_label("Username").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Code").fill(code)
    page.keyboard.press("Enter")


def test_the_whole_way_on_a_phone_without_javascript(own_visitor: Visitor):
    User.objects.create_superuser("olga", password=PASSWORD)
    phone = own_visitor.open("/admin/", viewport=PHONE, java_script_enabled=False)
    fill_in(phone)
    phone.get_by_role("link", name="Second factor").click()
    phone.get_by_role("button", name="Set it up").click()
    expect(phone.get_by_role("img", name="The key, for the camera of the phone")).to_be_visible()
    key = b32decode(phone.locator(".secret").inner_text().replace(" ", ""))
    phone.get_by_label("Code").fill(code_of(key))
    phone.keyboard.press("Enter")
    expect(phone.get_by_role("heading", name="Keep these backup codes")).to_be_visible()
    codes = phone.locator(".backup-codes code").all_inner_texts()
    phone.get_by_role("link", name="I have kept them").click()
    phone.get_by_role("button", name="Log out").click()

    phone.goto("/admin/")
    fill_in(phone)
    expect(phone.get_by_text("This account has a second factor")).to_be_visible()
    fill_in(phone, code_of(key, TOTPDevice.objects.get().last_t + 1))
    phone.get_by_role("link", name="Second factor").click()
    turn_off = phone.locator("form", has=phone.get_by_role("button", name="Turn it off"))
    turn_off.get_by_label("Code").fill(codes[0])
    phone.get_by_role("button", name="Turn it off").click()

    expect(phone.get_by_text("Your second factor is off.")).to_be_visible()
    assert own_visitor.errors == []


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_at_any_step(own_visitor: Visitor, scheme: str):
    olga = User.objects.create_superuser("olga", password=PASSWORD)
    page = own_visitor.open("/admin/", viewport=PHONE, color_scheme=scheme)
    found = {}

    def look(sentence: str) -> None:
        expect(page.get_by_text(sentence).first).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]
        found[sentence] = [*violations(page), *(["it scrolls sideways"] if wide else [])]

    look("Leave this empty if you have none.")
    fill_in(page)
    page.get_by_role("link", name="Second factor").click()
    look("Your account has no second factor")
    page.get_by_role("button", name="Set it up").click()
    look("Or type this key into the app")
    page.get_by_label("Code").fill(wrong_code(olga))
    page.get_by_role("button", name="Turn it on").click()
    look("This code is not right.")
    forgive()
    page.get_by_label("Code").fill(next_code(olga))
    page.get_by_role("button", name="Turn it on").click()
    look("Keep these backup codes")
    page.get_by_role("link", name="Second factor").click()
    look("Your second factor is on")
    page.get_by_role("button", name="Log out").click()
    look("Leave this empty if you have none.")
    fill_in(page)
    look("This account has a second factor")

    assert found == {sentence: [] for sentence in found}


@pytest.mark.pure
@pytest.mark.parametrize("spell", ["{0} {1}.", "{0}-{1}", "“{0}{1}”"])
def test_codes_are_taken_however_they_are_typed(protected: tuple[User, list[str]], spell: str):
    olga, backup_codes = protected
    of_the_app, of_paper = next_code(olga), backup_codes[0]

    assert second_factor.check(olga, spell.format(of_the_app[:3], of_the_app[3:]))
    assert second_factor.check(olga, spell.format(of_paper[:8].upper(), of_paper[8:].upper()))


@pytest.mark.pure
def test_a_code_in_digits_of_another_script_is_taken(protected: tuple[User, list[str]]):
    olga, _ = protected

    assert second_factor.check(olga, next_code(olga).translate(str.maketrans("0123456789", "０１２３４５６７８９")))
