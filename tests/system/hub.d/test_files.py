"""The patched client against the unpatched one, on an untroubled hub."""

import inspect
import pathlib
import types
import unittest.mock

from case import GRANTED, MIB, TOKEN, HubCase, content, haul, hub, huggingface_hub, tree
from huggingface_hub import file_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

LARGE = content(1, 24 * MIB)
ODD = {
    "config.json": b"{}",
    "empty.txt": b"",
    "with space.txt": b"a",
    "100%25 sure.txt": b"b",
    "naïve/файл.bin": content(2, 2 * MIB),
    "deep/er/and/deeper/x+y&z=1?.txt": b"c",
    "deep/#hash;semicolon.txt": b"d",
}


class Files(HubCase):
    def test_a_large_file_comes_over_several_connections(self):
        self.add({"model.bin": LARGE})
        hub.settings.bytes_per_second = 8 * MIB
        self.assert_holds(self.get("model.bin"), LARGE)
        self.assertGreater(len([entry for entry in self.asked("cdn") if entry["bytes"]]), 1)

    def test_small_and_odd_names_arrive_in_a_snapshot(self):
        self.add({**ODD, "model.bin": LARGE})
        for page in (1000, 2):
            with self.subTest(page=page):
                hub.settings.page = page
                found = self.snapshot(cache=self.dir / str(page))
                for path, data in {**ODD, "model.bin": LARGE}.items():
                    self.assert_holds(found / path, data)

    def test_small_files_behind_a_relative_redirect(self):
        self.add(ODD, private=True)
        hub.settings.resolve_cache = True
        self.assert_holds(self.get("with space.txt", token=TOKEN), b"a")

    def test_datasets_and_spaces(self):
        for kind in ("dataset", "space"):
            with self.subTest(kind=kind):
                self.add({"data.bin": LARGE}, kind=f"{kind}s")
                self.assert_holds(self.get("data.bin", repo_type=kind), LARGE)

    def test_revisions(self):
        repository = self.add({"model.bin": content(3, MIB), "small": b"main"})
        wanted = {"main": b"main"}
        for revision in ("side", "v1.0", "a/branch", "refs/pr/1"):
            repository.commit(self.files({"model.bin": content(revision, MIB), "small": revision.encode()}), revision)
            wanted[revision] = revision.encode()
        commit = repository.commit(self.files({"model.bin": content(4, MIB), "small": b"later"}))
        repository.refs["main"] = next(iter(repository.commits))
        wanted[commit] = b"later"
        for revision, data in wanted.items():
            with self.subTest(revision=revision):
                self.assert_holds(self.get("small", revision=revision), data)
        self.assert_holds(self.get("model.bin", revision="v1.0"), content("v1.0", MIB))
        self.assert_holds(self.get("model.bin", revision=commit), content(4, MIB))

    def test_a_private_repository_needs_a_token(self):
        self.add({"model.bin": LARGE, "small": b"x"}, private=True)
        with self.assertRaises(RepositoryNotFoundError):
            self.get("model.bin", token=False)
        for path, data in (("model.bin", LARGE), ("small", b"x")):
            self.assert_holds(self.get(path, token=TOKEN), data)
        self.assertTrue(any(entry["authorization"] for entry in self.asked("resolve")))
        self.assertTrue(self.asked("cdn"))

    def test_a_gated_repository_needs_the_right_token(self):
        self.add({"model.bin": LARGE}, gated=True)
        with self.assertRaises(GatedRepoError):
            self.get("model.bin", token=TOKEN)
        self.assert_holds(self.get("model.bin", token=GRANTED), LARGE)

    def test_nothing_is_asked_of_the_hub_for_what_is_cached(self):
        self.add({"model.bin": LARGE})
        with self.assertRaises(LocalEntryNotFoundError):
            self.get("model.bin", local_files_only=True)
        first = self.get("model.bin")
        asked = len(hub.requests)
        self.assertEqual(self.get("model.bin", local_files_only=True), first)
        self.assertEqual(len(hub.requests), asked)
        self.get("model.bin")
        self.assertEqual([entry["method"] for entry in hub.requests[asked:]], ["HEAD"])
        self.assert_holds(self.get("model.bin", force_download=True), LARGE)

    def test_files_in_xet_storage_come_without_it(self):
        self.add({"model.bin": LARGE})
        hub.settings.xet = True
        self.assert_holds(self.get("model.bin"), LARGE)
        self.assert_holds(self.snapshot(cache=self.dir / "other") / "model.bin", LARGE)
        self.assertEqual([entry["path"] for entry in hub.requests if "xet" in entry["path"]], [])

    def test_two_processes_fetch_a_file_once(self):
        self.add({"model.bin": LARGE})
        hub.settings.bytes_per_second = 8 * MIB
        program = (
            "import haul, huggingface_hub, sys; haul.patch_huggingface_hub();"
            "huggingface_hub.snapshot_download('org/name', cache_dir=sys.argv[1])"
        )
        before = hub.sent_bytes
        both = [self.python("-c", program, str(self.cache)) for _ in range(2)]
        for one in both:
            output, _ = one.communicate(timeout=60)
            self.assertEqual(one.returncode, 0, output)
        self.assertLess(hub.sent_bytes - before, 1.05 * len(LARGE))
        self.assert_holds(self.get("model.bin", local_files_only=True), LARGE)

    def test_bars_are_told_every_byte(self):
        if "tqdm_class" not in inspect.signature(huggingface_hub.hf_hub_download).parameters:
            self.skipTest("this version has no bars of the caller's")
        self.add({"model.bin": LARGE})
        told = []

        class Bar(huggingface_hub.utils.tqdm):
            def update(self, n=1):
                told.append(n)
                return super().update(n)

        self.get("model.bin", tqdm_class=Bar)
        self.assertEqual(sum(told), len(LARGE))


class Layout(HubCase):
    """Both clients leave the same."""

    def both(self, fetch):
        found = []
        for name, patched in (("by itself", False), ("by haul", True)):
            if not patched:
                haul.unpatch_huggingface_hub()
            else:
                haul.patch_huggingface_hub()
            folder = self.dir / name
            folder.mkdir()
            fetch(folder)
            found.append(tree(folder))
        self.assertEqual(*found)
        self.assertTrue(found[0])

    def test_of_the_cache(self):
        self.add({**ODD, "model.bin": LARGE, "again.bin": LARGE})

        def fetch(folder):
            self.snapshot(cache=folder)
            huggingface_hub.hf_hub_download("org/name", "config.json", cache_dir=folder, revision="main")

        self.both(fetch)

    def test_of_a_local_dir(self):
        self.add({**ODD, "model.bin": LARGE})
        self.both(lambda folder: self.snapshot(cache=folder / "cache", local_dir=folder / "local"))

    def test_of_a_new_commit(self):
        repository = self.add({"model.bin": LARGE, "small": b"1"})
        commits = repository.refs["main"], repository.commit(self.files({"model.bin": LARGE, "small": b"2"}))

        def fetch(folder):
            for repository.refs["main"] in commits:
                self.snapshot(cache=folder)

        self.both(fetch)


class Patch(HubCase):
    patched = False

    def test_twice_is_once_and_can_be_undone(self):
        before = dict(vars(file_download))
        haul.patch_huggingface_hub()
        once = dict(vars(file_download))
        haul.patch_huggingface_hub()
        self.assertEqual(dict(vars(file_download)), once)
        self.assertNotEqual(once, before)
        haul.unpatch_huggingface_hub()
        haul.unpatch_huggingface_hub()
        self.assertEqual(dict(vars(file_download)), before)

    def test_files_are_synced_unless_that_is_not_wanted(self):
        self.add({"small": b"x"})
        for sync in (True, False):
            haul.patch_huggingface_hub(sync=sync)
            self.addCleanup(haul.unpatch_huggingface_hub)
            with unittest.mock.patch.object(haul, "download", wraps=haul.download) as download:
                self.get("small", force_download=True)
            self.assertEqual(download.call_args.kwargs["sync"], sync)

    def test_a_version_that_works_otherwise_is_refused_and_left_alone(self):
        def without(name):
            return types.SimpleNamespace(**{key: value for key, value in vars(file_download).items() if key != name})

        other = types.SimpleNamespace(**vars(file_download))
        other._download_to_tmp_and_move = lambda incomplete_path, url_to_download: None
        for client, missing in ((without("_chmod_and_move"), "_chmod_and_move"), (other, "etag of _download_to_tmp")):
            with self.subTest(missing=missing), standing_in(client):
                before = dict(vars(client))
                with self.assertRaisesRegex(RuntimeError, f"not patched.*{missing}"):
                    haul.patch_huggingface_hub()
                self.assertEqual(dict(vars(client)), before)

    def test_the_command(self):
        self.add({"model.bin": LARGE, "small": b"x"})
        hub.settings.bytes_per_second = 8 * MIB
        command = self.python("-m", "haul.huggingface", "download", "org/name", "--local-dir", str(self.dir / "local"))
        output, _ = command.communicate(timeout=60)
        self.assertEqual(command.returncode, 0, output)
        self.assert_holds(self.dir / "local" / "model.bin", LARGE)
        self.assertGreater(len([entry for entry in self.asked("cdn") if entry["bytes"]]), 1)
        self.assertEqual(pathlib.Path(output.split()[-1]).name, "local")


class standing_in:
    """Lets another object be ``huggingface_hub.file_download``."""

    def __init__(self, module):
        self.module = module

    def __enter__(self):
        huggingface_hub.file_download = self.module

    def __exit__(self, *_):
        huggingface_hub.file_download = file_download
