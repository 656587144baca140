//! The setters that both builders have: one line for each option.

/// Implements the setters for a builder whose `inner` gives the [`crate::DownloadBuilder`]; or, for
/// any builder, setters for the fields of one part of what `inner` gives.
macro_rules! setters {
    ($builder:ident) => {
        impl $builder {
            /// The options set so far, to read and to change.
            pub fn options_mut(&mut self) -> &mut $crate::DownloadOptions {
                &mut self.inner().options
            }
        }
        $crate::api::setters::setters! { $builder, DownloadOptions in options:
            output(path: impl Into<std::path::PathBuf>) => output = Some(path.into());
            directory(directory: impl Into<std::path::PathBuf>) => directory = directory.into();
            connections(connections: $crate::Connections) => connections = connections;
            headers(headers: Vec<(String, String)>) => headers = headers;
            basic_auth(user: &str, password: &str)
                => basic_auth = Some((user.to_owned(), password.to_owned()));
            host_credentials(credentials: Vec<$crate::HostCredential>)
                => host_credentials = credentials;
            resume(resume: $crate::Resume) => resume = resume;
            foreign(foreign: $crate::Foreign) => foreign = foreign;
            existing(existing: $crate::Existing) => existing = existing;
            if_changed(on: bool) => if_changed = on;
            trust_url(on: bool) => trust_url = on;
            in_place(on: bool) => in_place = on;
            range(selection: $crate::Selection) => range = Some(selection);
            checksum(checksum: $crate::Checksum) => checksum = Some(checksum);
            pieces(pieces: $crate::Pieces) => pieces = Some(pieces);
            mirrors(urls: Vec<String>) => mirrors = urls;
            expected_size_bytes(bytes: u64) => expected_size_bytes = Some(bytes);
            max_size_bytes(bytes: u64) => max_size_bytes = Some(bytes);
            retry(policy: $crate::RetryPolicy) => retry = policy;
            stall_timeout(timeout: std::time::Duration) => stall_timeout = Some(timeout);
            storage(kind: $crate::StorageKind) => storage = kind;
            allocation(allocation: $crate::Allocation) => allocation = allocation;
            sync(on: bool) => sync = on;
            digest(on: bool) => digest = on;
            remote_time(on: bool) => remote_time = on;
            max_redirects(count: u32) => max_redirects = count;
            allow_downgrade(on: bool) => allow_downgrade = on;
            small_all_or_nothing(on: bool) => small_all_or_nothing = on;
            segment_size_bytes(bytes: u64) => segment_size_bytes = Some(bytes);
            window_bytes(bytes: u64) => window_bytes = bytes;
            min_split_bytes(bytes: u64) => min_split_bytes = Some(bytes);
            limit_rate(bytes_per_second: u64)
                => limit_rate_bytes_per_second = Some(bytes_per_second);
            priority(priority: i32) => priority = priority;
        }
        $crate::api::setters::setters! { $builder, others:
            /// Adds a request header to [`crate::DownloadOptions::headers`].
            header(name: &str, value: &str)
                |it| it.options.headers.push((name.to_owned(), value.to_owned()));
            /// Adds another URL of the same object to [`crate::DownloadOptions::mirrors`].
            mirror(url: &str) |it| it.options.mirrors.push(url.to_owned());
            /// Takes over what a Metalink says about its file; see
            /// [`crate::DownloadOptions::add_metalink`].
            ///
            /// ```no_run
            /// # async fn example(engine: haul_engine::Engine) -> Result<(), haul_engine::Error> {
            /// use haul_engine::MetalinkFile;
            ///
            /// let document = engine.download("https://example.org/a.meta4").bytes(1 << 20).await?;
            /// for file in MetalinkFile::parse(&document)? {
            ///     engine.download(&file.urls[0]).metalink(&file).start()?.wait().await?;
            /// }
            /// # Ok(())
            /// # }
            /// ```
            metalink(file: &$crate::MetalinkFile) |it| it.options.add_metalink(file);
            /// Uses this jar for the cookies of requests and for those that responses set. At the
            /// URL's own origin, a `Cookie` among the headers takes precedence.
            ///
            /// Without a jar no cookie is kept: a server that sets one with a redirect, and
            /// then requires it, refuses the download. Downloads may share a jar.
            cookies(jar: std::sync::Arc<dyn $crate::CookieJar>)
                |it| it.attached.cookies = Some(jar);
            /// Asks `refresh` for a fresh URL when this one expires.
            refresh(refresh: impl $crate::Refresh + 'static)
                |it| it.attached.refresh
                    = Some($crate::driver::refresh::Refresher(std::sync::Arc::new(refresh)));
            /// Keeps the bytes in a storage of the program instead of a file. Options about
            /// files (output, directory, [`Self::storage`]) have no effect, and
            /// [`crate::Summary::output`] is empty; [`Self::if_changed`] is refused. The
            /// download can be continued if the storage keeps its checkpoint
            /// ([`crate::storage::Storage::checkpoints`]). The storage serves one download at
            /// a time: the next may start when [`crate::Download::cancel`] or
            /// [`crate::Download::wait`] has returned.
            store_in(storage: std::sync::Arc<dyn $crate::storage::Storage>)
                |it| it.attached.storage = Some(std::sync::Arc::new(
                    $crate::driver::guard::GuardedStorage::new(storage)));
            /// Tells an observer of everything that happens to the download. Several are
            /// called in the order in which they were added.
            observe(observer: impl $crate::Observer + 'static)
                |it| it.attached.observers.add(std::sync::Arc::new(observer));
            /// Calls a function with the progress ten times a second, under the same
            /// conditions as an [`crate::Observer`].
            ///
            /// ```no_run
            /// # async fn example(engine: haul_engine::Engine) -> Result<(), haul_engine::Error> {
            /// let download = engine
            ///     .download("https://example.org/film.mp4")
            ///     .on_progress(|now| eprint!("\r{} bytes", now.bytes))
            ///     .start()?;
            /// download.await?;
            /// # Ok(())
            /// # }
            /// ```
            on_progress(call: impl Fn(&$crate::Progress) + Send + Sync + 'static)
                |it| it.attached.observers.add(
                    std::sync::Arc::new($crate::driver::observer::OnProgress(call)));
        }
    };
    ($builder:ident, $of:ident in $part:ident: $(
        $name:ident($($argument:ident: $kind:ty),+) => $field:ident = $value:expr;
    )+) => {
        impl $builder {$(
            #[doc = concat!("Sets [`crate::", stringify!($of), "::", stringify!($field), "`].")]
            pub fn $name(mut self, $($argument: $kind),+) -> Self {
                self.inner().$part.$field = $value;
                self
            }
        )+}
    };
    ($builder:ident, others: $(
        $(#[$doc:meta])+ $name:ident($($argument:ident: $kind:ty),+) |$it:ident| $set:expr;
    )+) => {
        impl $builder {$(
            $(#[$doc])+
            pub fn $name(mut self, $($argument: $kind),+) -> Self {
                let $it = self.inner();
                $set;
                self
            }
        )+}
    };
}

pub(crate) use setters;
