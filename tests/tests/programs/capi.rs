//! The C interface in programs of others: C, linked both ways, and Python.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use haul_tests::built::built;
use haul_tests::prelude::*;

const SIZE: u64 = 16 * MIB + 4321;

fn object() -> Object {
    Object::new(1, SIZE).with_content_type("video/mp4")
}

fn capi() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/capi")
}

fn library() -> PathBuf {
    built()
}

/// Compiles a C program against the header and links it with the library.
fn compile(sandbox: &Sandbox, source: &str, link: impl IntoIterator<Item = PathBuf>) -> PathBuf {
    let program = sandbox.root().join("program");
    let output = Command::new("cc")
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-g"])
        .args(std::env::var("HAUL_CFLAGS").iter().flat_map(|flags| flags.split_whitespace()))
        .arg("-I")
        .arg(capi().join("include"))
        .arg(capi().join(source))
        .args(link)
        // What `rustc --print native-static-libs` names.
        .args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-o"])
        .arg(&program)
        .output()
        .expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn shared() -> [PathBuf; 1] {
    [library().join("libhaul_capi.so")]
}

fn start<A: AsRef<OsStr>>(
    program: &Path,
    sandbox: &Sandbox,
    arguments: impl IntoIterator<Item = A>,
) -> Child {
    Command::new("timeout")
        .args(["--foreground", "60"])
        .arg(program)
        .args(arguments)
        .current_dir(sandbox.work())
        .env("LD_LIBRARY_PATH", library())
        .env("HAUL_LIBRARY", library().join("libhaul_capi.so"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// What it printed and told, after it ended with this code.
#[track_caller]
fn ends(child: Child, code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("the program ends");
    let (printed, told) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{status}: {printed}{told}");
    assert!(!printed.contains("secret") && !told.contains("secret"), "{printed}{told}");
    (printed, told)
}

#[test]
fn the_c_interface_is_what_its_header_says() {
    let object = object();
    let throttle = Throttle::new(2 * MIB).crawling_after(10 * MIB);
    let origin = {
        let (object, throttle) = (object.clone(), throttle.clone());
        Origin::start(move |request, _| match &*request.target {
            missing if missing.starts_with("/missing") => Response::empty(404),
            "/film?expired-secret" => Response::empty(403),
            _ => throttle.apply(standard(&object, request)),
        })
    };
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "tests/contract.c", shared());
    let arguments = [
        origin.url("/film?secret"),
        origin.url("/missing?secret"),
        sandbox.work().display().to_string(),
        object.byte_at(0).to_string(),
        origin.url("/film?expired-secret"),
    ];
    let (printed, _) = ends(start(&program, &sandbox, arguments), 0);
    assert_eq!(printed, "kept\n");
    std::fs::remove_file(&program).unwrap();
    sandbox.assert_nothing_left();
    assert!(origin.requests().iter().all(|it| it.request.header("User-Agent") == Some("contract")));
}

fn c_example_fetches_and_tells(link: impl IntoIterator<Item = PathBuf>) {
    let object = object();
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "examples/fetch.c", link);
    let child = start(&program, &sandbox, [origin.url("/film?secret"), "film.mp4".to_owned()]);
    let (printed, _) = ends(child, 0);
    assert!(printed.starts_with("started\n") && printed.contains("complete\n"), "{printed}");
    let begin: Vec<String> = object.bytes(0..16).iter().map(|it| format!("{it:02x}")).collect();
    assert!(printed.contains(&format!("it begins with {}\n", begin.join(" "))), "{printed}");
    let told = format!("film.mp4: {SIZE} bytes, 0 of them from an earlier run, blake3 ");
    assert!(printed.contains(&(told + &object.blake3_hex())), "{printed}");

    let child = start(&program, &sandbox, [origin.url("/film?secret"), "film.mp4".to_owned()]);
    let (_, told) = ends(child, 3);
    assert!(told.contains("exists"), "{told}");
    std::fs::remove_file(&program).unwrap();
    sandbox.assert_published("film.mp4", &object);
}

#[test]
fn a_c_program_fetches_with_the_shared_library() {
    c_example_fetches_and_tells(shared());
}

#[test]
fn a_c_program_fetches_with_the_static_library() {
    c_example_fetches_and_tells([library().join("libhaul_capi.a")]);
}

/// The process that `timeout` runs.
fn interrupt(child: &Child) {
    let id = child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let child = children.trim().parse().expect("one child");
    let child = rustix::process::Pid::from_raw(child).expect("a process");
    rustix::process::kill_process(child, Signal::INT).expect("it runs");
}

#[test]
fn an_interrupted_c_program_continues_in_another_process() {
    let object = object();
    let throttle = Throttle::new(4 * MIB).crawling_after(6 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "examples/fetch.c", shared());
    let fetch = |url: String| start(&program, &sandbox, [url, "film.mp4".to_owned()]);
    let child = fetch(origin.url("/film?signature=secret1"));
    origin.wait_until("some of it was sent", |origin| origin.sent_bytes() > 5 * MIB);
    interrupt(&child);
    let (_, told) = ends(child, 16);
    assert!(told.contains("the same command continues from"), "{told}");
    throttle.lift();
    let (printed, _) = ends(fetch(origin.url("/film?signature=secret2")), 0);
    assert!(!printed.contains(" 0 of them"), "{printed}");
    std::fs::remove_file(&program).unwrap();
    sandbox.assert_published("film.mp4", &object);
}

#[test]
fn a_python_program_fetches_reads_pauses_and_tells_errors() {
    if Command::new("python3").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: there is no python3");
        return;
    }
    let object = object();
    let origin = {
        let object = object.clone();
        let throttle = Throttle::new(MIB);
        Origin::start(move |request, _| match request.path() {
            "/missing" => Response::empty(404),
            _ => throttle.apply(standard(&object, request)),
        })
    };
    let sandbox = Sandbox::new();
    let script = capi().join("examples/fetch.py").display().to_string();
    let fetch = |path: &str| {
        let arguments = [script.clone(), origin.url(path), "film.mp4".to_owned()];
        start(Path::new("python3"), &sandbox, arguments)
    };
    let (printed, _) = ends(fetch("/film?secret"), 0);
    let end: String = object.bytes(SIZE - 8..SIZE).iter().map(|it| format!("{it:02x}")).collect();
    assert!(printed.contains(&format!("it ends with {end}\n")), "{printed}");
    assert!(printed.contains("paused at "), "{printed}");
    let events = ["started\n", "paused\n", "resumed\n", "complete\n"];
    assert!(events.iter().all(|event| printed.contains(event)), "{printed}");
    assert!(printed.contains(&format!("film.mp4: blake3 {}", object.blake3_hex())), "{printed}");
    sandbox.assert_published("film.mp4", &object);

    let (_, told) = ends(fetch("/missing?secret"), 3);
    assert!(told.contains("exists"), "{told}");
    std::fs::remove_file(sandbox.path("film.mp4")).unwrap();
    let (_, told) = ends(fetch("/missing?secret"), 12);
    assert!(told.contains("404"), "{told}");
}
