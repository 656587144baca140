//! How small downloads end together: the disk writes all of them before the first is
//! waited for, and their directory is synced once.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{End, Finished, Keeper, Place, PublishOptions, Published};
use crate::disk::checkpoint_file::directory_of;
use crate::disk::directory_sync::DirectorySyncs;
use crate::disk::unnamed::Unnamed;
use crate::model::error::Error;

type Reply = oneshot::Sender<Published>;

/// One that is whole and written, and has no name yet.
struct Written {
    unnamed: Unnamed,
    file: File,
    publish: PublishOptions,
    finished: Finished,
    directories: Arc<DirectorySyncs>,
    reply: Reply,
}

/// Ends them all, as [`Keeper::end`] would one by one.
pub(in crate::disk) fn finish_together(group: Vec<(Keeper, End)>) {
    let mut written = Vec::with_capacity(group.len());
    for (keeper, end) in group {
        match end {
            End::Finish { publish, expected, reply }
                if matches!(keeper.place, Place::Unnamed(_)) =>
            {
                let mut keeper = keeper;
                let (_, verdict) = keeper.conclude(&publish, &expected);
                match verdict {
                    Ok((finished, None)) => {
                        written.extend(write(keeper, publish, finished, reply));
                    }
                    Ok((_, Some(mismatch))) => refuse(reply, keeper.discard(mismatch)),
                    Err(error) => refuse(reply, error),
                }
            }
            end => keeper.end(end),
        }
    }
    let mut named = Vec::with_capacity(written.len());
    for one in written {
        let Written { unnamed, file, publish, .. } = &one;
        match unnamed.sync(file, publish).and_then(|()| unnamed.link(file)) {
            Ok(()) => named.push(one),
            Err(error) => refuse(one.reply, error),
        }
    }
    let mut durable = HashSet::new();
    for Written { unnamed, publish, finished, directories, reply, .. } in named {
        let directory = directory_of(unnamed.output()).to_owned();
        // Where the sync of another one's directory failed, each learns it by itself.
        let synced = match durable.contains(&directory) {
            true => Ok(()),
            false => unnamed.sync_directory(&publish, &directories),
        };
        match synced {
            Ok(()) => {
                durable.insert(directory);
                let output = Some(unnamed.output().to_owned());
                // Nobody listening is fine.
                let _ = reply.send(Ok(Finished { output, ..finished }));
            }
            Err(error) => refuse(reply, error),
        }
    }
}

fn write(
    keeper: Keeper,
    publish: PublishOptions,
    finished: Finished,
    reply: Reply,
) -> Option<Written> {
    let Keeper { place: Place::Unnamed(unnamed), directories, .. } = keeper else { return None };
    match unnamed.write(finished.bytes, &publish) {
        Ok(file) => Some(Written { unnamed, file, publish, finished, directories, reply }),
        Err(error) => {
            refuse(reply, error);
            None
        }
    }
}

/// Of what has no name nothing is kept.
fn refuse(reply: Reply, error: Error) {
    let _ = reply.send(Err((error, None)));
}
