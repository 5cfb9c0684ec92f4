"""The contact sheet: which pictures it keeps, and that nothing in a name becomes markup."""

import base64
import io
import re

import pytest
from PIL import Image

from varprompt.predict.rows import Row
from varprompt.predict.sheet import THUMBNAIL, Sheet


def jpeg(colour, size=(40, 23)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def row(path, name, p=0.5, total=0.5, unsure=None, truth=None):
    return Row(path, ((name, p), ("other", 1 - p)), (total, total / 2, total / 2), unsure, truth)


def test_the_least_sure_are_kept_of_many():
    sheet = Sheet("model", most=5)
    rows = [row(f"{i}.png", "sun", total=(7 * i % 40) / 10) for i in range(40)]
    for i in range(0, 40, 8):
        sheet.add(rows[i : i + 8], [b"-"] * 8)
    shown = re.findall(r"<code>(\d+)\.png", sheet.render(".html").decode())
    least_sure = sorted(rows, key=lambda r: -r.uncertainty[0])[:5]
    assert shown == [r.path.removesuffix(".png") for r in least_sure]
    assert "40 images" in sheet.render(".html").decode()
    assert "shown are the 5 least sure" in sheet.render(".html").decode()


def test_html_is_whole_and_escaped():
    sheet = Sheet("<model> & co")
    data = jpeg("red")
    sheet.add([row("<script>a.png", 'x"><u>', unsure=True), row("b\n.png", "sun")], [data] * 2)
    sheet.unreadable = ["c.png: <no> image"]
    page = sheet.render(".html").decode()
    assert "<script" not in page and "<u>" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is fetched
    images = re.findall(r"base64,([^\"]+)", page)
    assert [base64.b64decode(i) for i in images] == [data, data]
    assert page.count('class="unsure"') == 1 and "c.png: &lt;no&gt; image" in page
    assert "2 images" in page and "1 unsure" in page and "1 unreadable" in page


def test_wrong_answers_are_marked_where_the_right_ones_are_known():
    sheet = Sheet("model")
    rows = [row("a.png", "sun", truth="sun"), row("b.png", "sun", unsure=True, truth="<moon>"),
            row("c.png", "sun", truth="moon"), row("d.png", "sun")]  # fmt: skip
    sheet.add(rows, [jpeg("red")] * 4)
    page = sheet.render(".html").decode()
    figures = {
        re.search(r"<code>(.)", part)[1]: part for part in re.findall(r"<figure.*?</figure>", page)
    }
    assert "2 wrong (66.7 %)" in page  # of three that are known
    assert 'class="wrong"' in figures["c"] and "wrong: it is moon" in figures["c"]
    assert 'class="doubt wrong"' in figures["b"] and "wrong: it is &lt;moon&gt;" in figures["b"]
    assert "wrong" not in figures["a"] + figures["d"]


@pytest.mark.parametrize("n", [1, 9, 17])
def test_png_has_a_place_for_each(n):
    sheet = Sheet("model")
    sheet.add([row(f"{i}.png", "long name " * 9) for i in range(n)], [jpeg("red")] * n)
    page = Image.open(io.BytesIO(sheet.render(".png"))).convert("RGB")
    # the middles of thumbnails are red, nothing is cut off
    step_x, step_y = THUMBNAIL + 10, THUMBNAIL + 70
    columns = min(8, max(4, n))
    for i in range(n):
        x, y = 10 + i % columns * step_x, 60 + i // columns * step_y
        red, green, blue = page.getpixel((x + THUMBNAIL // 2, y + THUMBNAIL // 2))
        assert red > 200 and green < 60 and blue < 60
    assert page.height >= 60 + -(-n // columns) * step_y
