//! Disks of the tests' own: an image behind a loop device, or a small tmpfs.
//!
//! Mounting needs root and loop devices. Where they are missing, or a file
//! system is not known to the kernel, [`Disk::new`] says `skipped: ...` and
//! gives `None`: the test then passes without having looked. A machine that
//! must not skip sets `HAUL_DISKS=required`; every such case is a panic there.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::harness::Sandbox;
use crate::object::MIB;

/// Where the tools are, also for a root whose path lacks them.
const TOOLS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a busy mount is unmounted again, 10 ms apart, before it is given up.
const UNMOUNT_ROUNDS: u32 = 1000;

/// A kind of file system, and how it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ext4 with `data=ordered`, the default nearly everywhere.
    Ext4Ordered,
    /// ext4 with `data=writeback`: metadata may be on the disk before data.
    Ext4Writeback,
    /// ext4 with `data=journal`: data goes through the journal too.
    Ext4Journal,
    /// XFS.
    Xfs,
    /// btrfs, which copies on write and has no [`Disk::shutdown`].
    Btrfs,
    /// ext2, which cannot reserve blocks.
    Ext2,
    /// tmpfs, which has no image: nothing survives [`Disk::remount`].
    Tmpfs,
}

impl Format {
    /// The four that survive [`Disk::shutdown`] by a journal.
    pub const JOURNALED: [Self; 4] =
        [Self::Ext4Ordered, Self::Ext4Writeback, Self::Ext4Journal, Self::Xfs];

    /// The smallest disk that its tools make, in bytes.
    #[must_use]
    pub fn least_bytes(self) -> u64 {
        match self {
            Self::Ext4Ordered | Self::Ext4Writeback | Self::Ext4Journal => 16 * MIB,
            Self::Xfs => 300 * MIB,
            Self::Btrfs => 128 * MIB,
            Self::Ext2 | Self::Tmpfs => MIB,
        }
    }

    /// The words of the command that formats, before the image's path.
    fn format_command(self) -> &'static [&'static str] {
        match self {
            Self::Ext4Ordered | Self::Ext4Writeback | Self::Ext4Journal => {
                &["mkfs.ext4", "-q", "-F", "-b", "4096"]
            }
            Self::Xfs => &["mkfs.xfs", "-q", "-f"],
            Self::Btrfs => &["mkfs.btrfs", "-q", "-f"],
            Self::Ext2 => &["mkfs.ext2", "-q", "-F", "-b", "4096"],
            Self::Tmpfs => &[],
        }
    }

    /// Type and options for mount(8). The commit interval of ext4 is long so
    /// that only what is synced survives a cut, on a slow machine too.
    fn mount_options(self) -> (&'static str, &'static str) {
        match self {
            Self::Ext4Ordered => ("ext4", "loop,data=ordered,commit=300"),
            Self::Ext4Writeback => ("ext4", "loop,data=writeback,commit=300"),
            Self::Ext4Journal => ("ext4", "loop,data=journal,commit=300"),
            Self::Xfs => ("xfs", "loop"),
            Self::Btrfs => ("btrfs", "loop"),
            Self::Ext2 => ("ext2", "loop"),
            Self::Tmpfs => ("tmpfs", "mode=0755"),
        }
    }
}

/// A mounted file system that nothing else uses. Unmounted, and its loop device
/// freed, when dropped, also by a panic.
#[derive(Debug)]
pub struct Disk {
    format: Format,
    size_bytes: u64,
    /// Holds the image and the mount point; mounted onto itself.
    base: tempfile::TempDir,
    /// How many of the two are mounted: `base`, and the file system in it.
    mounts: u32,
}

impl Disk {
    /// A new disk of `size_bytes`, which is at least [`Format::least_bytes`].
    /// `None`, with a notice, where it cannot be had.
    ///
    /// # Panics
    /// Instead of the notice, with `HAUL_DISKS=required` in the environment.
    #[must_use]
    pub fn new(format: Format, size_bytes: u64) -> Option<Self> {
        match Self::try_new(format, size_bytes) {
            Ok(disk) => Some(disk),
            Err(why) => {
                let required = std::env::var_os("HAUL_DISKS").is_some_and(|it| it == "required");
                assert!(!required, "no {format:?} disk: {why}");
                // Past the test harness's capture, which keeps what passes to itself.
                let notice = format!("skipped: no {format:?} disk: {why}\n");
                let _ = io::stderr().write_all(notice.as_bytes());
                None
            }
        }
    }

    fn try_new(format: Format, size_bytes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting needs root".to_owned());
        }
        let base = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut disk = Self { format, size_bytes, base, mounts: 0 };
        // A mount namespace that somebody makes meanwhile (`ip netns exec` does)
        // keeps copies of private mounts, and with them the file system alive.
        // Below a shared mount the copies go when ours does.
        let base = disk.base.path();
        tool(Command::new("mount").arg("--bind").args([base, base]))?;
        disk.mounts = 1;
        tool(Command::new("mount").arg("--make-shared").arg(base))?;
        std::fs::create_dir(disk.path()).map_err(|error| error.to_string())?;
        if let [program, args @ ..] = format.format_command() {
            let image = File::create(disk.image()).map_err(|error| error.to_string())?;
            image.set_len(size_bytes).map_err(|error| error.to_string())?;
            tool(Command::new(program).args(args).arg(disk.image()))?;
        }
        disk.mount()?;
        Ok(disk)
    }

    /// The root directory of the file system.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.base.path().join("mount")
    }

    /// What it was formatted as.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// An empty sandbox on this disk, which a power cut does not take away.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn sandbox(&self) -> Sandbox {
        let sandbox = Sandbox::within(&self.path());
        self.sync().expect("a new disk can be synced");
        sandbox
    }

    /// Bytes that an ordinary file may still take, by statfs(2). Zero is less
    /// than a block.
    ///
    /// # Panics
    /// When the disk does not tell.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::fstatvfs(self.root()).expect("the disk tells its size");
        stat.f_bfree * stat.f_frsize
    }

    /// Fills the disk with a file of its own until not one more block fits;
    /// [`Disk::make_room`] removes it.
    ///
    /// # Panics
    /// When writing fails for another reason.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a name fits");
        let bytes = vec![0x5a; MIB as usize];
        // btrfs has some room again once it has committed.
        for _ in 0..2 {
            // Less and less at once: a write that does not fit may store nothing.
            let mut len = bytes.len();
            while len >= 512 {
                match file.write(&bytes[..len]) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) => len /= 2,
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => len /= 2,
                    Err(error) => panic!("the filler: {error}"),
                }
            }
            // A full disk may say so once more here.
            let _ = self.sync();
        }
    }

    /// Undoes [`Disk::fill`], and waits until the room can be used: btrfs frees
    /// it with its next commit.
    ///
    /// # Panics
    /// When the disk is not filled.
    pub fn make_room(&self) {
        let filler = File::options().write(true).open(self.filler()).expect("the disk was filled");
        std::fs::remove_file(self.filler()).expect("a name can be removed");
        // A command that another thread starts meanwhile has the file open until it is a
        // program of its own, and a file that is open keeps its blocks. btrfs may be too
        // full to cut it short.
        let _ = filler.set_len(0);
        drop(filler);
        self.sync().expect("the disk can be synced");
    }

    /// Cuts the power: from now on every operation fails with EIO, and what is
    /// only in memory never reaches the disk. With `with_log_flush` the
    /// journal is written out first, which keeps metadata whose data is lost.
    ///
    /// # Panics
    /// When the file system cannot do it.
    pub fn shutdown(&self, with_log_flush: bool) {
        const LOG_FLUSH: u32 = 1;
        const NO_LOG_FLUSH: u32 = 2;
        /// FS_IOC_SHUTDOWN: it reads a u32, though it is numbered as if it wrote one.
        const SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
        let flags = if with_log_flush { LOG_FLUSH } else { NO_LOG_FLUSH };
        // SAFETY: the kernel reads a u32 for this opcode, which is what the
        // setter points at while the call lasts.
        #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
        let setter = unsafe { rustix::ioctl::Setter::<SHUTDOWN, u32>::new(flags) };
        // SAFETY: the descriptor is open, and the call has no effect on the
        // memory of this process.
        #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
        let result = unsafe { rustix::ioctl::ioctl(self.root(), setter) };
        result.unwrap_or_else(|error| panic!("{:?} cannot be shut down: {error}", self.format));
    }

    /// Unmounts the disk and mounts it again, as after a power cut. Nothing may
    /// be in use on it any more.
    ///
    /// # Panics
    /// When it is in use, or cannot be mounted.
    pub fn remount(&mut self) {
        // A file that a process held until a moment ago is let go of late.
        let done = (0..UNMOUNT_ROUNDS).any(|round| {
            thread::sleep(Duration::from_millis(10) * round.min(1));
            tool(Command::new("umount").arg(self.path())).is_ok()
        });
        assert!(done, "{:?} is still in use", self.format);
        self.mounts = 1;
        self.mount().unwrap_or_else(|error| panic!("{:?}: {error}", self.format));
    }

    /// Changes options of the mounted disk, such as `ro` or, for tmpfs,
    /// `size=20m`.
    ///
    /// # Panics
    /// When mount(8) says no.
    pub fn change(&self, options: &str) {
        let options = format!("remount,{options}");
        tool(Command::new("mount").args(["-o", &options]).arg(self.path()))
            .unwrap_or_else(|error| panic!("{:?}: {error}", self.format));
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn image(&self) -> PathBuf {
        self.base.path().join("image")
    }

    fn root(&self) -> File {
        File::open(self.path()).expect("the root directory can be opened")
    }

    fn sync(&self) -> Result<(), String> {
        tool(Command::new("sync").arg("-f").arg(self.path()))
    }

    fn mount(&mut self) -> Result<(), String> {
        let (kind, options) = self.format.mount_options();
        let (source, options) = match self.format {
            Format::Tmpfs => {
                (PathBuf::from("tmpfs"), format!("{options},size={}", self.size_bytes))
            }
            _ => (self.image(), options.to_owned()),
        };
        tool(
            Command::new("mount").args(["-t", kind, "-o", &options]).arg(source).arg(self.path()),
        )?;
        self.mounts = 2;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for path in
            [self.base.path().to_owned(), self.path()].iter().take(self.mounts as usize).rev()
        {
            if tool(Command::new("umount").arg(path)).is_err() {
                // The loop device goes with the last user of the mount.
                let _ = tool(Command::new("umount").arg("-l").arg(path));
            }
        }
    }
}

/// Runs a tool to its end; what it complained of otherwise.
fn tool(command: &mut Command) -> Result<(), String> {
    let output = command
        .env("PATH", TOOLS)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", command.get_program().display(), said.trim()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn mounts() -> String {
        fs::read_to_string("/proc/self/mounts").expect("the kernel tells")
    }

    #[test]
    fn only_what_was_synced_survives_a_cut() {
        for format in Format::JOURNALED {
            let Some(mut disk) = Disk::new(format, format.least_bytes()) else { continue };
            let file = |disk: &Disk, name: &str| disk.path().join(name);
            for name in ["synced", "lost"] {
                fs::write(file(&disk, name), name.repeat(1000)).unwrap();
                if name == "synced" {
                    File::open(file(&disk, name)).unwrap().sync_all().unwrap();
                }
            }
            disk.shutdown(false);
            assert!(fs::write(file(&disk, "late"), "x").is_err(), "{format:?} goes on");
            disk.remount();
            assert_eq!(fs::read(file(&disk, "synced")).unwrap().len(), 6000, "{format:?}");
            assert!(!file(&disk, "lost").exists(), "{format:?} kept what nobody synced");
            fs::write(file(&disk, "again"), "x").unwrap();
        }
    }

    #[test]
    fn log_flush_keeps_names() {
        for format in Format::JOURNALED {
            let Some(mut disk) = Disk::new(format, format.least_bytes()) else { continue };
            fs::create_dir(disk.path().join("named")).unwrap();
            disk.shutdown(true);
            disk.remount();
            assert!(disk.path().join("named").is_dir(), "{format:?}");
        }
    }

    #[test]
    fn nothing_stays_mounted_after_a_panic() {
        let Some(disk) = Disk::new(Format::Ext2, MIB) else { return };
        let path = disk.path().display().to_string();
        assert!(mounts().contains(&path));
        let open = File::create(disk.path().join("open")).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _disk = disk;
            panic!("on purpose, with a file open");
        }));
        assert!(panicked.is_err());
        assert!(!mounts().contains(&path));
        drop(open);
    }

    #[test]
    fn full_is_full_until_the_filler_goes() {
        for format in [Format::Tmpfs, Format::Ext2, Format::Ext4Ordered, Format::Btrfs] {
            let Some(disk) = Disk::new(format, format.least_bytes()) else { continue };
            disk.fill();
            assert!(fs::write(disk.path().join("x"), vec![1; MIB as usize]).is_err(), "{format:?}");
            disk.make_room();
            let written = fs::write(disk.path().join("x"), [1; 4096]);
            assert!(written.is_ok(), "{format:?}: {written:?}");
        }
    }
}
