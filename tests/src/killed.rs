//! A download that was killed midway at a good origin, to be continued at
//! another one: the faults of section A to D meet a resume.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;

use crate::harness::{Haul, Outcome, Sandbox, Signal, assert_well_asked};
use crate::object::{MIB, Object};
use crate::origin::{
    Authority, Context, Origin, OriginBuilder, Record, Request, Response, ServerIdentity, Throttle,
    Validity, standard,
};

/// The size of the objects in bytes: several leases and a short last segment.
pub const SIZE: u64 = 16 * MIB + 4321;

/// Bytes that a checkpoint of the killed run surely holds.
pub const STORED: u64 = 2 * MIB;

/// The partial and the checkpoint of `file` after a SIGKILL, and how to go on.
#[derive(Debug)]
pub struct Killed {
    /// Where they are.
    pub sandbox: Sandbox,
    program: &'static str,
    path: &'static str,
    listener: TcpListener,
    tls: Option<(ServerIdentity, tempfile::NamedTempFile)>,
    stall_timeout: &'static str,
}

impl Killed {
    /// A download of `object` from a plain origin.
    #[must_use]
    pub fn new(program: &'static str, object: &Object) -> Self {
        Self::at(program, object, "/file", None)
    }

    /// A download of `object` over TLS.
    ///
    /// # Panics
    /// When the authority's certificate cannot be written.
    #[must_use]
    pub fn over_tls(program: &'static str, object: &Object) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&["127.0.0.1"], Validity::Current);
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), authority.pem()).expect("it can be written");
        Self::at(program, object, "/file", Some((identity, file)))
    }

    /// A download of `object` from the plain origin's `path`, with its slash.
    #[must_use]
    pub fn from_path(program: &'static str, object: &Object, path: &'static str) -> Self {
        Self::at(program, object, path, None)
    }

    fn at(
        program: &'static str,
        object: &Object,
        path: &'static str,
        tls: Option<(ServerIdentity, tempfile::NamedTempFile)>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let killed =
            Self { sandbox: Sandbox::new(), program, path, listener, tls, stall_timeout: "5s" };
        let throttle = Throttle::new(2 * MIB).crawling_after(3 * STORED);
        let (served, limit) = (object.clone(), throttle.clone());
        let origin =
            killed.origin().start(move |request, _| limit.apply(standard(&served, request)));

        let mut running = killed.command(&origin).start();
        // Each checkpoint is another file. One that came after more than STORED
        // bytes were counted holds that many.
        let checkpoint = killed.sandbox.checkpoint("file");
        let number = || fs::metadata(&checkpoint).map_or(0, |found| found.ino());
        running.wait_until("enough bytes are here", |running| running.bytes() >= 2 * STORED);
        let before = number();
        running.wait_until("another checkpoint is there", |_| ![0, before].contains(&number()));
        running.signal(Signal::KILL);
        assert_eq!(running.finish().code, 137);
        assert!(!killed.sandbox.path("file").exists(), "it was too fast");
        killed
    }

    /// The next runs wait no more than a second for a server that says nothing.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.stall_timeout = "1s";
        self
    }

    fn origin(&self) -> OriginBuilder {
        let listener = self.listener.try_clone().expect("a descriptor");
        let builder = Origin::builder().listener(listener);
        match &self.tls {
            Some((identity, _)) => builder.tls(identity),
            None => builder,
        }
    }

    fn command(&self, origin: &Origin) -> Haul {
        let haul = Haul::new(self.program, &self.sandbox).json().args([
            "-x",
            "4",
            "-o",
            "file",
            "--retry",
            "2",
            "--stall-timeout",
            self.stall_timeout,
        ]);
        let authority = self.tls.iter().flat_map(|(_, file)| ["--cacert".as_ref(), file.path()]);
        haul.args(authority).arg(origin.url(self.path))
    }

    /// Runs the same command against an origin that answers by `script`.
    pub fn meets(
        &self,
        script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static,
    ) -> (Outcome, Vec<Record>) {
        self.meets_at(|builder| builder, script)
    }

    /// The same at an origin that is set up in another way.
    pub fn meets_at(
        &self,
        prepare: impl FnOnce(OriginBuilder) -> OriginBuilder,
        script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static,
    ) -> (Outcome, Vec<Record>) {
        let origin = prepare(self.origin()).start(script);
        let outcome = self.command(&origin).run();
        assert_well_asked(&origin);
        (outcome, origin.requests())
    }

    /// Nothing is published, partial and checkpoint are kept, and the same
    /// command against an honest origin continues and ends with `object`.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn assert_continues(&self, object: &Object) {
        self.sandbox.assert_kept("file");
        let outcome = self.assert_completes(object);
        let resumed = outcome.resumed_bytes();
        assert!(resumed >= STORED, "{resumed} bytes were left of the partial\n{outcome}");
    }

    /// The same command against an honest origin ends with `object`.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn assert_completes(&self, object: &Object) -> Outcome {
        let served = object.clone();
        let (outcome, _) = self.meets(move |request, _| standard(&served, request));
        outcome.expect(0);
        self.sandbox.assert_published("file", object);
        outcome
    }
}
