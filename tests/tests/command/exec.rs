//! `--exec`: a command on each file that is complete.

use haul_tests::harness::write_program;
use haul_tests::prelude::*;

const SIZE: u64 = 300_000;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).arg(origin.url("/film.mp4"))
}

/// A program in the sandbox, for `--exec`.
fn program(sandbox: &Sandbox, script: &str) -> String {
    let path = sandbox.root().join("temporary program");
    write_program(&path, script);
    format!("'{}'", path.display())
}

#[test]
fn the_command_gets_the_complete_file() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let exec = program(&sandbox, "cp \"$1\" \"$2\"; echo \"of the command\"");
    let outcome = command(&sandbox, &origin).args(["--exec", &format!("{exec} {{}} copy")]).run();
    outcome.expect(0);
    for name in ["film.mp4", "copy"] {
        object(SIZE).compare_file(&sandbox.path(name)).unwrap();
    }
    assert!(outcome.text().contains("of the command"), "{outcome}");
    assert!(outcome.event("complete")["bytes"].is_u64());
}

#[test]
fn a_command_that_fails_is_exit_13_and_the_file_stays() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let outcome = command(&sandbox, &origin).args(["--exec", "false"]).run();
    outcome.expect(13).expect_message("false failed with exit status: 1");
    sandbox.assert_published("film.mp4", &object(SIZE));
    let outcome =
        command(&sandbox, &origin).args(["--overwrite", "--exec", "/no/such/program {}"]).run();
    outcome.expect(13).expect_message("cannot be started");
    let outcome = command(&sandbox, &origin).args(["--exec", "{} x"]).run();
    outcome.expect(2);
    sandbox.assert_published("film.mp4", &object(SIZE));
}

#[test]
fn no_shell_reads_a_servers_text() {
    let origin = Origin::start(|request, _| {
        let name = "attachment; filename=\"a $(touch pwned) ; touch pwned; `touch pwned`\"";
        standard(&object(SIZE), request).header("Content-Disposition", name)
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).args(["--exec", "cp {} copy"]).run().expect(0);
    assert_eq!(sandbox.files().len(), 2, "{:?}", sandbox.files());
    object(SIZE).compare_file(&sandbox.path("copy")).unwrap();
}

#[test]
fn nothing_is_run_on_what_is_not_complete() {
    let origin = Origin::start(|_, _| Response::empty(404));
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).args(["--exec", "touch ran"]).run().expect(8);
    sandbox.write("film.mp4", "older");
    let haul = command(&sandbox, &origin).args(["-o", "film.mp4", "--skip-existing"]);
    haul.args(["--exec", "touch ran"]).run().expect(0);
    assert_eq!(sandbox.files(), ["film.mp4"]);
}
