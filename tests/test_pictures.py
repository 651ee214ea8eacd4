"""Product pictures: what becomes of an upload, where it is kept, and how pages and browsers get it."""

import html
import re
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from moto import mock_aws
from PIL import Image, ImageCms, PngImagePlugin
from pytest_django import Settings

from flashsale.media_storage import parse_media_storage
from sales import pictures, publishing
from sales.models import Sale
from tests.servers import WebServer, free_port
from tests.test_admin import LIST, form

ORIENTATION, GPS, MAKE = 0x0112, 0x8825, 0x010F
ROTATED_RIGHT = 6
NAME = re.compile(r"products/[0-9a-f]{32}-\d+\.webp")
RED, BLUE = (200, 30, 30), (30, 30, 200)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> BytesIO:
    upload = BytesIO()
    image.save(upload, kind, **options)
    return upload


def photo(width: int = 2000, height: int = 1500, kind: str = "JPEG", **options: Any) -> BytesIO:
    """Return a picture that is red on the left and blue on the right."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return encoded(image, kind, **options)


def opened(rendition: pictures.Rendition) -> Image.Image:
    return Image.open(BytesIO(rendition.webp))


def is_near(image: Image.Image, place: tuple[int, int], colour: tuple[int, ...]) -> bool:
    found = image.getpixel(place)
    assert isinstance(found, tuple)
    return all(abs(one - other) < 25 for one, other in zip(found, colour, strict=True))


# What becomes of an upload


@pytest.mark.pure
@pytest.mark.parametrize(
    ("width", "expected"),
    [(5000, [480, 960, 1440]), (1440, [480, 960, 1440]), (1000, [480, 960, 1000]), (480, [480]), (200, [200])],
)
def test_renditions_match_page_widths_and_never_exceed_the_picture(width: int, expected: list[int]):
    renditions = pictures.render(photo(width, width * 3 // 4))

    assert [rendition.width for rendition in renditions] == expected
    for rendition in renditions:
        image = opened(rendition)
        assert image.format == "WEBP"
        assert image.size == (rendition.width, rendition.height)
        assert abs(rendition.height - rendition.width * 3 / 4) <= 1


@pytest.mark.pure
def test_a_photo_taken_sideways_stands_upright():
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED_RIGHT

    (rendition,) = pictures.render(photo(400, 300, exif=exif))

    image = opened(rendition)
    assert image.size == (300, 400)
    assert is_near(image, (150, 20), RED)
    assert is_near(image, (150, 380), BLUE)


@pytest.mark.pure
def test_metadata_is_gone():
    exif = Image.Exif()
    exif[MAKE] = "A camera"
    exif.get_ifd(GPS)[1] = "N"
    upload = photo(exif=exif, comment=b"A secret", xmp=b"<x:xmpmeta>A secret</x:xmpmeta>")
    assert b"A secret" in upload.getvalue()

    for rendition in pictures.render(upload):
        assert not opened(rendition).getexif()
        assert opened(rendition).info.keys().isdisjoint({"exif", "xmp", "icc_profile", "comment"})
        assert b"A secret" not in rendition.webp


@pytest.mark.pure
def test_text_in_a_png_is_gone():
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "A secret")

    (rendition,) = pictures.render(photo(300, 200, "PNG", pnginfo=text))

    assert b"A secret" not in rendition.webp


@pytest.mark.pure
@pytest.mark.parametrize("has_profile", [True, False])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept(mode: str, has_profile: bool):
    image = Image.new("RGBA", (600, 400), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 300, 400))

    options = {"icc_profile": srgb()} if has_profile else {}

    renditions = pictures.render(encoded(image.convert(mode), "PNG", **options))

    for rendition in renditions:
        small = opened(rendition).convert("RGBA")
        alpha = small.getchannel("A")
        assert alpha.getpixel((5, 5)) == 255
        assert alpha.getpixel((small.width - 5, 5)) == 0


@pytest.mark.pure
@pytest.mark.parametrize("mode", ["L", "1", "CMYK"])
def test_pictures_of_other_colour_modes_are_taken(mode: str):
    upload = encoded(Image.open(photo(600, 400)).convert(mode), "TIFF" if mode == "1" else "JPEG")
    if mode == "1":
        upload = encoded(Image.open(upload), "PNG")

    assert [opened(rendition).mode for rendition in pictures.render(upload)] == ["RGB", "RGB"]


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.pure
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_colours_of_another_profile_are_converted(kind: str):
    red_is_blue = srgb().replace(b"rXYZ", b"XYZ?").replace(b"bXYZ", b"rXYZ").replace(b"XYZ?", b"bXYZ")

    (rendition,) = pictures.render(photo(300, 200, kind, icc_profile=red_is_blue))

    image = opened(rendition)
    assert is_near(image, (20, 100), BLUE)
    assert is_near(image, (280, 100), RED)


@pytest.mark.pure
def test_a_profile_that_does_not_fit_is_left_out():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    (plain,) = pictures.render(photo(300, 200))

    (unfit,) = pictures.render(photo(300, 200, icc_profile=lab.tobytes()))
    (broken,) = pictures.render(photo(300, 200, icc_profile=b"no profile"))

    assert plain.webp == unfit.webp == broken.webp


@pytest.mark.pure
def test_a_photo_with_an_embedded_preview_is_no_animation():
    first, preview = Image.open(photo(600, 400)), Image.open(photo(60, 40))
    upload = encoded(first, "MPO", save_all=True, append_images=[preview])
    assert Image.open(upload).format == "MPO"

    assert [rendition.width for rendition in pictures.render(upload)] == [480, 600]


# What is refused


def bomb() -> BytesIO:
    """Return 64 million pixels in a small file."""
    return encoded(Image.new("1", (8000, 8000)), "PNG")


@pytest.mark.pure
@pytest.mark.parametrize(
    ("upload", "reason"),
    [
        (lambda: BytesIO(b""), pictures.UNREADABLE),
        (lambda: BytesIO(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"), pictures.UNREADABLE),
        (lambda: BytesIO(b"MZ" + bytes(1000)), pictures.UNREADABLE),
        (lambda: photo(kind="BMP", width=60, height=40), pictures.UNREADABLE),
        (lambda: photo(kind="GIF", width=60, height=40), pictures.UNREADABLE),
        (lambda: BytesIO(photo().getvalue()[:2000]), pictures.UNREADABLE),
        (lambda: BytesIO(photo(kind="PNG").getvalue()[:-200]), pictures.UNREADABLE),
        (lambda: BytesIO(photo(kind="WEBP").getvalue()[:500]), pictures.UNREADABLE),
        (lambda: BytesIO(bytes(pictures.LARGEST_BYTES + 1)), pictures.TOO_MANY_BYTES),
        (bomb, pictures.TOO_MANY_PIXELS),
        (lambda: photo(2000, 400), pictures.TOO_LONG),
        (lambda: photo(400, 2000), pictures.TOO_LONG),
    ],
)
def test_unsuitable_pictures_are_refused_with_the_reason(upload: Callable[[], BytesIO], reason: str):
    with pytest.raises(pictures.BadPicture, match=re.escape(reason)):
        pictures.render(upload())


@pytest.mark.pure
def test_a_picture_claiming_enormous_size_is_refused_undecoded():
    claim = bytearray(photo(60, 40, "PNG").getvalue())
    claim[16:24] = (60_000).to_bytes(4) * 2

    with pytest.raises(pictures.BadPicture):
        pictures.render(BytesIO(claim))


# Where it is kept


@pytest.fixture
def media(settings: Settings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def files(media: Path) -> list[str]:
    return sorted(str(path.relative_to(media)) for path in media.rglob("*") if path.is_file())


@pytest.mark.pure
def test_the_same_picture_is_kept_once(media: Path):
    first = pictures.store(pictures.render(photo()))

    again = pictures.store(pictures.render(photo()))

    assert first == again
    assert files(media) == sorted(each["name"] for each in first)
    assert all(NAME.fullmatch(name) for name in files(media))


@pytest.mark.pure
def test_half_a_picture_is_not_left_behind(media: Path, monkeypatch: pytest.MonkeyPatch):
    def fail_half_way(name: str, content: object) -> str:
        (media / name).parent.mkdir(parents=True)
        (media / name).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(default_storage, "save", fail_half_way)

    with pytest.raises(pictures.BadPicture, match="could not be stored"):
        pictures.store(pictures.render(photo()))

    assert files(media) == []


# The admin's form


@pytest.fixture
def operator(transactional_db: None, static_files: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def upload_of(content: BytesIO, name: str = "photo.jpg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content.getvalue(), "image/jpeg")


def add(operator: Client, picture: BytesIO) -> Sale:
    response = operator.post(f"{LIST}add/", form(image=upload_of(picture)))
    assert response.status_code == 302, response.context["adminform"].form.errors
    sale = Sale.objects.latest("id")
    sale.published = True
    sale.save()
    publishing.publish(sale)
    return sale


def test_a_picture_is_uploaded_and_mirrored(operator: Client, media: Path):
    sale = add(operator, photo())

    config = publishing.standing(sale).config
    names = [each["name"] for each in sale.renditions]
    assert [each["width"] for each in sale.renditions] == [480, 960, 1440]
    assert sale.image.name == names[-1]
    assert files(media) == sorted(names)
    assert config["image_url"] == f"/media/{names[-1]}"
    assert config["image_srcset"] == (f"/media/{names[0]} 480w, /media/{names[1]} 960w, /media/{names[2]} 1440w")
    assert (config["image_width"], config["image_height"]) == ("1440", "1080")


def test_the_form_shows_the_picture(operator: Client, media: Path):
    sale = add(operator, photo())

    page = operator.get(f"{LIST}{sale.id}/change/").content.decode()

    assert f'<img src="/media/{sale.renditions[0]["name"]}" width="240" height="180" alt="">' in page
    assert "until you choose a picture" in operator.get(f"{LIST}add/").content.decode()


def test_a_change_without_a_picture_keeps_it(operator: Client, media: Path):
    before = add(operator, photo())

    operator.post(f"{LIST}{before.id}/change/", form(name="New name"))

    after = Sale.objects.get()
    assert (after.name, after.image.name, after.renditions) == ("New name", before.image.name, before.renditions)


def note_of(page: str) -> str:
    return html.unescape(re.findall(r'name="picture_note"\s+value="([^"]+)"', page)[0])


def test_a_picture_outlives_a_mistake_elsewhere_in_the_form(operator: Client, media: Path):
    page = operator.post(f"{LIST}add/", form(image=upload_of(photo()), total_stock="1.000")).content.decode()
    stored = files(media)
    again = operator.post(f"{LIST}add/", form(picture_note=note_of(page), name="")).content.decode()

    operator.post(f"{LIST}add/", form(picture_note=note_of(again)))

    sale = Sale.objects.get()
    assert "The picture that you chose is kept" in page
    assert f'<img src="/media/{sale.renditions[0]["name"]}"' in page
    assert sale.image.name == sale.renditions[-1]["name"]
    assert files(media) == stored == sorted(each["name"] for each in sale.renditions)


def test_a_picture_outlives_a_mistake_in_a_change(operator: Client, media: Path):
    sale = add(operator, photo())
    address = f"{LIST}{sale.id}/change/"
    page = operator.post(address, form(image=upload_of(photo(1000, 800)), total_stock="1.000")).content.decode()

    for changes, width in (({"image-clear": "on"}, None), ({}, 1000), ({"image": upload_of(photo(600, 400))}, 600)):
        operator.post(address, form(picture_note=note_of(page), **changes))

        sale.refresh_from_db()
        assert (sale.renditions[-1]["width"] if sale.renditions else None) == width


def test_a_picture_note_is_bound_to_operator_and_session(
    operator: Client, media: Path, monkeypatch: pytest.MonkeyPatch
):
    page = operator.post(f"{LIST}add/", form(image=upload_of(photo()), name="")).content.decode()
    another = Client()
    another.force_login(User.objects.create_superuser("another"))
    note, later = note_of(page), time.time() + 13 * 3600

    another.post(f"{LIST}add/", form(picture_note=note, name="another"))
    operator.post(f"{LIST}add/", form(picture_note=f"{note}x", name="forged"))
    operator.post(f"{LIST}add/", form(picture_note="x" * 1_000_000, name="long"))
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    operator.post(f"{LIST}add/", form(picture_note=note, name="late"))

    found = dict(Sale.objects.values_list("name", "image"))
    assert found == {"another": "", "forged": "", "long": "", "late": ""}


def test_a_new_picture_gets_new_addresses_beside_the_old(operator: Client, media: Path):
    before = add(operator, photo())

    operator.post(f"{LIST}{before.id}/change/", form(image=upload_of(photo(1000, 800))))

    after = Sale.objects.get()
    names = {each["name"] for sale in (before, after) for each in sale.renditions}
    assert len(names) == 6
    assert files(media) == sorted(names)
    assert publishing.standing(after).config["image_width"] == "1000"


def test_a_picture_is_removed(operator: Client, media: Path):
    sale = add(operator, photo())

    operator.post(f"{LIST}{sale.id}/change/", form(**{"image-clear": "on"}))

    after = Sale.objects.get()
    assert (after.image.name, after.renditions) == ("", [])
    assert publishing.standing(after).config["image_url"] == ""


@pytest.mark.parametrize(
    ("content", "reason"), [(BytesIO(b"no picture"), pictures.UNREADABLE), (photo(2000, 400), pictures.TOO_LONG)]
)
def test_the_form_says_what_is_wrong_with_an_upload(operator: Client, media: Path, content: BytesIO, reason: str):
    sale = add(operator, photo())

    response = operator.post(f"{LIST}{sale.id}/change/", form(image=upload_of(content)))

    assert response.status_code == 200
    assert response.context["adminform"].form.errors == {"image": [reason]}
    assert Sale.objects.get().renditions == sale.renditions


def test_the_form_says_when_the_storage_fails(operator: Client, media: Path):
    (media / "products").touch()  # where its folder should be

    response = operator.post(f"{LIST}add/", form(image=upload_of(photo())))

    assert response.context["adminform"].form.errors == {"image": [pictures.NOT_STORED]}
    assert not Sale.objects.exists()


# Over HTTP


@pytest.fixture
def stored() -> str:
    """Return the path of a picture that the server has."""
    return f"/media/{pictures.store(pictures.render(photo(300, 200)))[0]['name']}"


def test_the_page_offers_each_width_and_shifts_nothing(http: httpx.Client, operator: Client, seen: Callable[[], None]):
    sale = add(operator, photo())
    seen()

    page = http.get("/").text

    (image,) = re.findall(r'<img class="product"[^>]*>', page)
    for words in ('width="1440"', 'height="1080"', "480w", "960w", "1440w", "sizes="):
        assert words in image
    for each in sale.renditions:
        response = http.get(f"/media/{each['name']}")
        assert (response.status_code, response.headers["content-type"]) == (200, "image/webp")
        assert Image.open(BytesIO(response.content)).size == (each["width"], each["height"])


def test_browsers_cache_a_picture_forever(http: httpx.Client, stored: str):
    response = http.get(stored)
    head = http.head(stored)
    again = http.get(stored, headers={"If-None-Match": response.headers["etag"]})

    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in response.headers
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == response.headers["content-length"] == str(len(response.content))
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == response.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        "/media/",
        "/media/products/",
        "/media/products",
        f"/media/products/{'x' * 300}.webp",
        f"/media/products/{'x' * 70}.webp",
        f"/media/{'x' * 3000}",
        "/media/products/..%2f..%2fdb.sqlite3",
        "/media/products/%2e%2e/%2e%2e/local.env",
        "/media/../local.env",
        "/media/products/a.webp%00",
        "/media/products/a.svg",
    ],
)
def test_nothing_else_is_served_or_listed(http: httpx.Client, stored: str, path: str):
    response = http.get(path)

    assert response.status_code == (400 if path.endswith("%00") else 404)
    assert Path(stored).name not in response.text


def test_pictures_are_only_read(http: httpx.Client, stored: str):
    response = http.options(stored)

    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


def test_a_strangers_picture_is_refused_unread_with_advice(http: httpx.Client):
    response = http.post("/admin/sales/sale/add/", content=bytes(11 * 1024 * 1024))

    assert response.status_code == 413
    assert "Sign in in another tab" in response.text


# Object storage

BUCKET = "s3://shop-pictures/live?region=eu-central-1"


@pytest.mark.pure
@pytest.mark.parametrize(
    ("address", "public", "origin"),
    [
        (BUCKET, "https://shop-pictures.s3.eu-central-1.amazonaws.com/live/", None),
        (f"{BUCKET}&public=https://img.shop.example", "https://img.shop.example/live/", "https://img.shop.example"),
        ("s3://shop?endpoint=http://minio:9000", "http://minio:9000/shop/", "http://minio:9000"),
        (
            "s3://shop?endpoint=http://minio:9000/&public=https://cdn.example/p",
            "https://cdn.example/p/",
            "https://cdn.example",
        ),
    ],
)
def test_where_browsers_get_pictures_from(settings: Settings, address: str, public: str, origin: str | None):
    storage = parse_media_storage(address)
    settings.STORAGES = {**settings.STORAGES, "default": storage.backend}

    assert default_storage.url("products/a.webp") == f"{public}products/a.webp"
    assert storage.origin == (origin or public.removesuffix("/live/"))


@pytest.mark.pure
def test_pictures_are_kept_on_this_machine_by_default(settings: Settings):
    assert parse_media_storage("local").backend == settings.STORAGES["default"]
    assert settings.MEDIA_STORAGE.origin == ""


@pytest.mark.pure
@pytest.mark.parametrize(
    "address",
    [
        "s3",
        "https://bucket.example",
        "s3://",
        "s3://bucket",
        "s3://key:secret@bucket?region=eu-central-1",
        "s3://bucket?region=eu-central-1&acl=public",
        "s3://bucket?endpoint=minio:9000",
        "s3://bucket?region=eu-central-1&public=img.shop.example",
    ],
)
def test_addresses_that_name_no_storage(address: str):
    with pytest.raises(ValueError, match=r"."):
        parse_media_storage(address)


@pytest.fixture
def bucket(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client of a simulated S3 with the bucket, which pictures go to."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("s3", region_name="eu-central-1")
        place = {"LocationConstraint": "eu-central-1"}
        client.create_bucket(Bucket="shop-pictures", CreateBucketConfiguration=place)
        settings.STORAGES = {**settings.STORAGES, "default": parse_media_storage(BUCKET).backend}
        yield client


def test_pictures_go_to_the_bucket(operator: Client, bucket: Any):
    sale = add(operator, photo())

    keys = {found["Key"] for found in bucket.list_objects_v2(Bucket="shop-pictures")["Contents"]}
    assert keys == {f"live/{each['name']}" for each in sale.renditions}
    for key in keys:
        found = bucket.head_object(Bucket="shop-pictures", Key=key)
        assert found["ContentType"] == "image/webp"
        assert found["CacheControl"] == "public, max-age=31536000, immutable"
    host = "https://shop-pictures.s3.eu-central-1.amazonaws.com"
    assert publishing.standing(sale).config["image_url"] == f"{host}/live/{sale.image.name}"


def test_the_form_says_when_the_bucket_is_gone(operator: Client, bucket: Any):
    bucket.delete_bucket(Bucket="shop-pictures")

    response = operator.post(f"{LIST}add/", form(image=upload_of(photo())))

    assert response.context["adminform"].form.errors == {"image": [pictures.NOT_STORED]}


@pytest.mark.usefixtures("open_sale", "static_files")
def test_pages_allow_only_pictures_from_the_bucket():
    with WebServer({"PORT": str(free_port()), "MEDIA_STORAGE": BUCKET, "WEB_CONCURRENCY": "1"}) as server:
        policy = httpx.get(f"{server.url}/").headers["content-security-policy"]

    assert "img-src 'self' https://shop-pictures.s3.eu-central-1.amazonaws.com" in policy.split("; ")
    assert policy.count("amazonaws") == 1
