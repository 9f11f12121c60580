"""What manifest and resources promise, as far as aapt2 does not look at it."""

import re
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.android.kit import BUILD_TYPES, FLAVOURS, RESOURCES, build_number, catalogue, merged_manifest

APP = Path(__file__).parent.parent.parent / "android_demo" / "app" / "src"
MAIN, BENCHMARK = APP / "main", APP / "benchmark"
KOTLIN = MAIN / "kotlin" / "dev" / "sfumato" / "demo"
CORE = APP.parents[1] / "core" / "src" / "main" / "kotlin" / "dev" / "sfumato" / "core"
NAME = "{http://schemas.android.com/apk/res/android}"
REMOVE = "{http://schemas.android.com/tools}node"
WORDLESS = ("ImageView", "ImageButton", "Slider", "PreviewView", "CompareView")
TOUCHED = ("MaterialButton", "Slider", "MaterialSwitch", "TextInputEditText", "MaterialAutoCompleteTextView")
"""What is tapped or moved."""


def elements(path: Path) -> list[ElementTree.Element]:
    """Every element of a file."""
    return list(ElementTree.parse(path).iter())


def test_texts_are_resources_and_what_shows_none_is_described() -> None:
    files = [*APP.glob("*/AndroidManifest.xml"), *APP.glob("*/res/layout*/*.xml")]
    assert len(files) > 2
    for element in [found for path in files for found in elements(path)]:
        texts = {name: element.get(NAME + name) for name in ("text", "hint", "label", "contentDescription")}
        assert all(value is None or value.startswith("@string/") for value in texts.values()), texts
        if element.tag.rpartition(".")[2] in WORDLESS:
            assert texts["contentDescription"], element.tag


@pytest.mark.parametrize("build", [MAIN, BENCHMARK], ids=lambda build: str(build.name))
def test_every_text_is_used_and_none_is_missing(build: Path) -> None:
    """aapt2 finds what resources lack, the compiler what Kotlin lacks; nobody else finds what is left over."""
    named = {
        found.get("name")
        for found in elements(build / "res" / "values" / "strings.xml")
        if found.tag in ("string", "plurals")
    }
    sources = [path.read_text(encoding="utf-8") for path in [*build.rglob("*.kt"), *build.rglob("*.xml")]]
    used = set(re.findall(r"(?:R\.(?:string|plurals)\.|@string/)(\w+)", "\n".join(sources)))
    assert named == used - {"cancel"}  # Android's own


def texts(folder: str) -> dict[tuple[str, str], str]:
    """(name, quantity) -> text of a language in every build type, without what is the same in all."""
    found = {}
    for build in (MAIN, BENCHMARK):
        for element in ElementTree.parse(build / "res" / folder / "strings.xml").getroot():
            if element.get("translatable") != "false":
                for item in [element] if element.tag == "string" else element:
                    found[str(element.get("name")), item.get("quantity", "")] = item.text or ""
    return found


LANGUAGES = {"de": {"one", "other"}, "es": {"one", "many", "other"}}
"""Folder's ending -> the plural forms that Unicode's CLDR has for the language."""
ALIKE = {"de": {"upload", "server_title", "threads_described", "accelerator_described", "right", "answer"}}
ALIKE["de"] |= {"history_entry", "answer_number"}
ALIKE["es"] = {"right", "answer", "answer_number", "history_entry"}
"""Texts that are the same in English."""


@pytest.mark.parametrize("build", [MAIN, BENCHMARK], ids=lambda build: str(build.name))
def test_every_language_of_the_app_is_complete(build: Path) -> None:
    folders = {path.parent.name for path in build.glob("res/values-*/strings.xml")}
    assert folders == {f"values-{language}" for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_says_everything_and_fills_in_the_same(language: str) -> None:
    """Keys, and the arguments that Kotlin fills in: place and kind of each, whatever their order."""
    english, other = texts("values"), texts(f"values-{language}")
    plurals = {name for name, quantity in english if quantity}
    expected = {key for key in english if not key[1]}
    expected |= {(name, quantity) for name in plurals for quantity in LANGUAGES[language]}
    assert set(other) == expected
    for (name, quantity), text in other.items():
        said = english[name, quantity if (name, quantity) in english else "other"]
        arguments = [sorted(re.findall(r"%(?:\d+\$[,.\d]*[a-z]|%)", one)) for one in (said, text)]
        assert arguments[0] == arguments[1], name
        assert text.count("\\n") == said.count("\\n"), name
        assert re.search(r"(?<!\\)'", text) is None, name  # aapt2 would drop it
    alike = {name for name, quantity in other if not quantity and other[name, ""] == english[name, ""]}
    assert alike == ALIKE[language]


def colours(folder: str) -> dict[str, str]:
    """Name -> #RRGGBB."""
    found = elements(MAIN / "res" / folder / "colors.xml")
    return {str(one.get("name")): str(one.text) for one in found if one.tag == "color"}


def roles() -> dict[str, str]:
    """Role of Material 3 -> the app's colour, before Android 12."""
    items = [found for found in elements(MAIN / "res" / "values" / "themes.xml") if found.tag == "item"]
    return {str(item.get("name")): str(item.text).removeprefix("@color/") for item in items}


def test_the_night_knows_every_colour_that_changes_and_no_other() -> None:
    used = set(roles().values())
    assert {"primary", "surface"} <= used
    assert set(colours("values-night")) == used
    assert set(colours("values")) == used | {"icon_background"}


@pytest.mark.parametrize("folder", ["values", "values-night"])
def test_text_stands_out_from_what_it_is_written_on(folder: str) -> None:
    """Contrast by WCAG 2: 4.5 and more for text, 3 for the outline of what is tapped."""
    colour = colours(folder)

    def luminance(name: str) -> float:
        parts = [int(colour[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    pairs = [
        (name, name.removeprefix("on_").removesuffix("_variant")) for name in colour if name[:3] == "on_"
    ]
    assert len(pairs) == 6
    pairs += [
        ("on_surface", "surface_container"),
        ("on_surface_variant", "surface_container"),
        ("primary", "surface"),
    ]
    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []
    assert contrast("outline", "surface") >= 3


def test_the_screen_is_made_of_material_3s_parts() -> None:
    """The names: aapt2 links them against tests/android/resources.txt, which says what the library publishes."""
    layout = elements(MAIN / "res" / "layout" / "main.xml")
    tags = {found.tag for found in layout}
    plain = {"LinearLayout", "FrameLayout", "ScrollView", "TextView"}  # what holds others, and text
    assert {tag for tag in tags if "." not in tag} <= plain
    others = {tag for tag in tags if "." in tag and not tag.startswith("com.google.android.material.")}
    assert others == {
        "androidx.camera.view.PreviewView",
        *(f"dev.sfumato.demo.{one}" for one in ("CompareView", "KeptView")),
    }
    kinds = {
        str(found.get(NAME + "id")).rpartition("/")[2]: str(found.get("style")).rpartition(".")[2]
        for found in layout
        if found.tag.endswith(".MaterialButton")
    }
    assert {name for name, kind in kinds.items() if kind == "Button"} == {
        "send",
        "agree",
    }  # one of them at a time
    assert {kinds[name] for name in ("right_upload", "right_noise")} == {"OutlinedButton"}
    cards = [found for found in layout if found.tag.endswith(".MaterialCardView")]
    titles = [found for found in layout if found.get(NAME + "accessibilityHeading") == "true"]
    assert (len(cards), len(titles)) == (5, 3)
    for folder, parent in (("values", ""), ("values-v31", "DynamicColors.")):
        (theme,) = [one for one in elements(MAIN / "res" / folder / "themes.xml") if one.tag == "style"]
        wanted = ("Theme.Sfumato", f"Theme.Material3.{parent}DayNight.NoActionBar")
        assert (theme.get("name"), theme.get("parent")) == wanted


def test_the_list_of_the_libraries_resources_has_what_is_used_and_no_more() -> None:
    text = RESOURCES.read_text(encoding="utf-8")
    listed = set(re.findall(r"^(?:attr|style) (\S+)", text, re.MULTILINE))
    files = [*MAIN.glob("res/layout*/*.xml"), *MAIN.glob("res/values*/themes.xml")]
    used = set()
    for path in files:
        content = path.read_text(encoding="utf-8")
        used |= set(
            re.findall(
                r"\bapp:(\w+)=|[?]attr/(\w+)|@style/([\w.]+)|parent=\"([\w.]+)\"|<item name=\"(\w+)\"",
                content,
            )
        )
    assert listed == {name for names in used for name in names if name}
    sections = [line for line in text.splitlines() if line.startswith("[")]
    for line in sections:
        found = re.match(r"\[(\w+) ([\d.]+)\] \S", line)
        assert found is not None, line
        assert catalogue(found[1]).startswith(f"{found[2]}.")


def test_what_is_tapped_is_large_enough_and_grows_with_the_font() -> None:
    layout = elements(MAIN / "res" / "layout" / "main.xml")
    touched = [found for found in layout if found.tag.rpartition(".")[2] in TOUCHED]
    assert len(touched) > 20
    for found in touched:
        size = (found.get(NAME + "layout_height"), found.get(NAME + "minHeight"))
        assert size == ("wrap_content", "48dp"), found.get(NAME + "id")
    for found in layout:  # no text in a box of fixed height, and none in pixels
        assert not (found.get(NAME + "text") and str(found.get(NAME + "layout_height")).endswith("dp"))
        assert found.get(NAME + "textSize") is None


def test_the_bars_of_the_system_hide_nothing() -> None:
    """Since Android 15 an app for it draws behind them, like it or not."""
    assert build_number("targetSdk") >= 35
    source = (KOTLIN / "MainActivity.kt").read_text(encoding="utf-8")
    kinds = re.findall(r"WindowInsetsCompat\.Type\.(\w+)\(\)", source)
    assert kinds == ["systemBars", "displayCutout", "ime"]
    layout = elements(MAIN / "res" / "layout" / "main.xml")
    assert [
        found for found in layout if found.get(NAME + "fitsSystemWindows")
    ] == []  # it would be counted twice
    (activity,) = [found for found in elements(MAIN / "AndroidManifest.xml") if found.tag == "activity"]
    assert (
        activity.get(NAME + "windowSoftInputMode") == "adjustResize"
    )  # the keyboard is among the insets before Android 11


def test_what_leaves_is_said_right_above_the_button_that_sends_it() -> None:
    names = [
        str(found.get(NAME + "id")).rpartition("/")[2]
        for found in elements(MAIN / "res" / "layout" / "main.xml")
    ]
    assert names[names.index("leaves") + 1] == "send"
    for language in ("values", *(f"values-{language}" for language in LANGUAGES)):
        said = texts(language)
        sentences = [text for (name, _), text in said.items() if name in ("leaves_upload", "leaves_word")]
        assert len(sentences) in (4, 6)
        for text in sentences:
            assert len(re.findall(r"[.!?](?:\s|$)", text)) == 1, text  # one sentence


def test_only_the_preview_is_a_mirror_and_both_see_the_same() -> None:
    """PreviewView shows the front camera so by itself; a frame that is turned over would be another photo."""
    camera = (KOTLIN / "LiveCamera.kt").read_text(encoding="utf-8")
    frame = (CORE / "YuvFrame.kt").read_text(encoding="utf-8")
    (turns,) = re.findall(r"ORIENTATIONS = mapOf\((.+)\)", frame)
    assert set(re.findall(r"to (\d)", turns)) == {"1", "3", "6", "8"}  # 2, 4, 5 and 7 turn over
    assert "Mirror" not in camera
    for asked in (
        "Resolution",
        "AspectRatio",
    ):  # CameraX gives both 4:3 unless it is asked for something else
        assert asked not in camera
    assert "bindToLifecycle(owner, chosen(cameras, front), preview, analysed)" in camera
    assert re.search(
        r"onDisplayChanged\(display: Int\) \{\n.+\n +analysis\?\.targetRotation = rotation", camera
    )
    assert (
        camera.count(".registerDisplayListener(turns")
        == camera.count(".unregisterDisplayListener(turns")
        == 1
    )
    screen = (KOTLIN / "MainActivity.kt").read_text(encoding="utf-8")
    assert re.search(
        r"fun onDestroy\(\) \{\n +camera\.close\(\)\n", screen
    )  # turned, the activity is another one
    (box,) = [
        found
        for found in elements(MAIN / "res" / "layout" / "main.xml")
        if str(found.get(NAME + "id")).endswith("/camera_picture")
    ]
    assert [found.tag.rpartition(".")[2] for found in box] == [
        "PreviewView",
        "KeptView",
    ]  # the veil is on top


def test_the_photo_is_smoothed_and_what_is_compared_with_it_is_not() -> None:
    view = (KOTLIN / "CompareView.kt").read_text(encoding="utf-8")
    assert re.findall(r"val (\w+) = Paint\(\)\.apply \{ isFilterBitmap = (\w+) \}", view) == [
        ("smooth", "true"),
        ("plain", "false"),
    ]
    assert re.findall(r"drawBitmap\((\w+), null, place, (\w+)\)", view) == [
        ("second", "plain"),
        ("first", "smooth"),
    ]
    assert "compare.show(if (running) null else shown?.photo?.toBitmap(), right)" in (
        KOTLIN / "MainActivity.kt"
    ).read_text(encoding="utf-8")


def test_the_app_asks_for_camera_and_network_alone() -> None:
    manifest = elements(MAIN / "AndroidManifest.xml")
    asked = [
        found.get(NAME + "name")
        for found in manifest
        if found.tag == "uses-permission" and found.get(REMOVE) != "remove"
    ]
    assert sorted(map(str, asked)) == ["android.permission.CAMERA", "android.permission.INTERNET"]


def test_the_benchmark_is_in_no_build_that_people_get() -> None:
    """What other apps may start is the screen, and for adb's shell alone the benchmark."""
    screen, benchmark = {".MainActivity": None}, {".BenchmarkActivity": "android.permission.DUMP"}
    wanted = {"debug": screen, "release": screen, "benchmark": {**screen, **benchmark}}
    assert set(wanted) == set(BUILD_TYPES)
    for kind, flavour in product(wanted, FLAVOURS):
        activities = wanted[kind]
        manifest = list(ElementTree.fromstring(merged_manifest(kind, flavour)).iter())
        exported = {
            found.get(NAME + "name"): found.get(NAME + "permission")
            for found in manifest
            if found.get(NAME + "exported") == "true"
        }
        assert exported == activities, kind
        profiled = [found.get(NAME + "shell") for found in manifest if found.tag == "profileable"]
        assert profiled == (["true"] if kind == "benchmark" else []), kind
        # Gradle writes it for builds of type debug, and would take ours for everyone's word.
        assert not [found for found in manifest if found.get(NAME + "debuggable")], kind
    assert [path.relative_to(APP).parts[0] for path in APP.rglob("BenchmarkActivity.kt")] == ["benchmark"]


def test_the_benchmark_is_built_as_a_release_is() -> None:
    build = (APP.parent / "build.gradle.kts").read_text(encoding="utf-8")
    (types,) = re.findall(r"^    buildTypes \{\n(.*?)^    \}\n", build, re.DOTALL | re.MULTILINE)
    assert [line.strip() for line in types.splitlines()] == [
        'create("benchmark") {',
        'initWith(getByName("release"))',
        'signingConfig = signingConfigs.getByName("debug")',
        "}",
    ]
    assert "ebuggable" not in build.replace("a debuggable app", "")


def test_nothing_of_the_app_is_backed_up_or_moved_to_another_phone() -> None:
    """Up to Android 11 `allowBackup` says so; since Android 12 a new phone takes what no rule excludes."""
    (application,) = [found for found in elements(MAIN / "AndroidManifest.xml") if found.tag == "application"]
    assert application.get(NAME + "allowBackup") == "false"
    assert application.get(NAME + "fullBackupContent") == "false"
    assert application.get(NAME + "dataExtractionRules") == "@xml/data_extraction_rules"
    rules = ElementTree.parse(MAIN / "res" / "xml" / "data_extraction_rules.xml").getroot()
    assert [way.tag for way in rules] == ["cloud-backup", "device-transfer"]
    places = {"root", "file", "database", "sharedpref"}
    places |= {"external"} | {f"device_{place}" for place in places}
    for way in rules:
        assert {rule.tag for rule in way} == {"exclude"}
        assert {rule.get("domain") for rule in way} == places
        assert all(set(rule.keys()) == {"domain"} for rule in way)  # the whole place, not a path of it


def test_secrets_lie_where_no_backup_goes() -> None:
    source = (KOTLIN / "MainActivity.kt").read_text(encoding="utf-8")
    folders = re.findall(r"SecretFile\((.+?), \"", source)
    assert len(folders) == 4
    assert set(folders) <= {"context.noBackupFilesDir", "folder"}
    assert re.findall(r"val folder = (.+)", source) == ["context.noBackupFilesDir"]


def test_the_log_gets_one_line_and_nothing_of_a_photo() -> None:
    """The line begins a network's part of TensorFlow Lite's log; what it holds is a random number."""
    core = APP.parent.parent / "core" / "src" / "main"
    sources = [path for name in ("main", "litert2", "nnapi") for path in (APP / name).rglob("*.kt")]
    lines = [
        line.strip()
        for path in [*sources, *BENCHMARK.rglob("*.kt"), *core.rglob("*.kt")]
        if path.name != "CheckExport.kt"  # runs on the computer, before the build
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\bLog\.|\bprint(ln|StackTrace)?\(|System\.(out|err)|Timber", line)
    ]
    assert lines == ['Log.i("tflite", mark)']
    network = (KOTLIN / "LiteRtNetwork.kt").read_text(encoding="utf-8")
    assert re.findall(r"val mark = (.+)", network) == ['"sfumato loads a network, ${UUID.randomUUID()}"']


def test_what_is_shared_is_the_upload_and_leaves_by_the_share_sheet() -> None:
    (provider,) = [found for found in elements(MAIN / "AndroidManifest.xml") if found.tag == "provider"]
    assert provider.get(NAME + "exported") == "false"
    assert provider.get(NAME + "grantUriPermissions") == "true"
    (paths,) = [found.get(NAME + "resource") for found in provider]
    assert paths == "@xml/shared_paths"
    lent = [
        (path.tag, path.get("path"))
        for path in ElementTree.parse(MAIN / "res" / "xml" / "shared_paths.xml").getroot()
    ]
    sharing = (KOTLIN / "Sharing.kt").read_text(encoding="utf-8")
    assert lent == [("cache-path", "shared/")]
    assert 'File(context.cacheDir, "shared")' in sharing
    assert "Intent.createChooser(" in sharing
    assert str(provider.get(NAME + "authorities")).replace("applicationId", "context.packageName") in sharing
    screen = (KOTLIN / "MainActivity.kt").read_text(encoding="utf-8")
    assert re.findall(r"startActivity\(.*", screen) == ["startActivity(shareSheet(this, drawn))"]
    assert "val drawn = shown?.perturbed?.drawn ?: return" in screen


def test_frames_of_the_camera_are_not_read_aloud() -> None:
    """A live region is written on a change alone, and none but the status speaks while the camera runs."""
    regions = {
        str(found.get(NAME + "id")).rpartition("/")[2]
        for found in elements(MAIN / "res" / "layout" / "main.xml")
        if found.get(NAME + "accessibilityLiveRegion")
    }
    names = {re.sub(r"_(\w)", lambda letter: letter[1].upper(), region) for region in regions}
    assert {"status", "unlike", "answer", "account", "runtime"} <= names
    source = (KOTLIN / "MainActivity.kt").read_text(encoding="utf-8")
    (quiet,) = re.findall(r"for \(view in with\(views\) \{ listOf\((.+)\) \}\)", source)
    assert set(quiet.split(", ")) == names - {"status"}
    assert source.count("speak(!state.live)") == 1
    every = re.compile(rf"\b(?:{'|'.join(names)})\.(?:text = |setText\(|visibility = )")
    written = [line for line in source.splitlines() if every.search(line)]
    assert len(written) == 7
    # What is left is the sentence of an export that cannot be used, which comes once.
    assert [line.strip() for line in written if not re.search(r"= OnChange<\w+> \{", line)] == [
        "is DemoUiState.Broken -> views.status.text = getString(R.string.broken, state.reason)"
    ]


def test_what_is_left_and_right_in_words_is_so_from_right_to_left() -> None:
    """A mirrored slider would move against the line, and a mirrored row would name the wrong halves."""
    places = {
        str(found.get(NAME + "id")).rpartition("/")[2]: found.get(NAME + "layoutDirection")
        for found in elements(MAIN / "res" / "layout" / "main.xml")
    }
    assert {name for name, direction in places.items() if direction == "ltr"} == {"wipe", "sides"}
    view = (KOTLIN / "CompareView.kt").read_text(encoding="utf-8")
    assert "layoutDirection" not in view  # the photo is on the left there, whatever the language
    for path in MAIN.glob("res/layout*/*.xml"):
        assert re.findall(r"android:\w*(?:Left|Right)\w*=", path.read_text(encoding="utf-8")) == []


def test_what_the_user_chooses_or_types_is_written_on_a_change_alone() -> None:
    """Every frame of the camera renders the state: OnChange.kt says what that would undo."""
    source = (KOTLIN / "MainActivity.kt").read_text(encoding="utf-8")
    written = [
        line
        for line in source.splitlines()
        if re.search(r"setText\(.*, false\)|\b(server|limit|token)\.setText\(", line)
    ]
    assert len(written) == 5
    assert [line for line in written if not re.search(r"= OnChange<\w+> \{", line)] == []


@pytest.mark.parametrize(("build", "clear"), [("main", []), ("debug", ["127.0.0.1", "localhost"])])
def test_clear_text_goes_to_this_phone_in_debug_builds_and_to_nobody_else(
    build: str, clear: list[str]
) -> None:
    tree = ElementTree.parse(APP / build / "res" / "xml" / "network_security_config.xml").getroot()
    assert [found.get("cleartextTrafficPermitted") for found in tree.findall("base-config")] == ["false"]
    allowed = [
        found for found in tree.findall("domain-config") if found.get("cleartextTrafficPermitted") == "true"
    ]
    domains = [domain for found in allowed for domain in found.findall("domain")]
    assert sorted(str(domain.text) for domain in domains) == clear
    assert all(domain.get("includeSubdomains") == "false" for domain in domains)
