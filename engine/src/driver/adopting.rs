//! A file that another program began: it is continued if stored bytes, fetched again, are the
//! same, and left as it is otherwise.

use std::path::{Path, PathBuf};

use super::Driver;
use crate::disk::output;
use crate::disk::resume::adopting::{adopt, look_into_leftover};
use crate::disk::resume::foreign::{Found, Leftover, MOVE_HINT};
use crate::disk::resume::refusing::{refuse_finished, refuse_foreign};
use crate::model::config::Existing;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::NoticeCode;
use crate::model::resource::Resource;
use crate::model::samples::Proof;
use crate::model::size::size_words;

impl Driver {
    /// Whether what another program left may still be continued: what this run has begun is not
    /// another program's, and what it gave up is not looked at again.
    pub(super) fn adopts(&self) -> bool {
        self.options.continues_foreign()
            && self.opening.believes_earlier()
            && !self.storing.keeps_place()
            && !self.options.plan_only
    }

    /// Takes over what another program left of the object.
    ///
    /// # Errors
    /// If what is there is not of the object and may not be replaced.
    pub(super) async fn adopt_leftover(
        &mut self,
        output: &Path,
        resource: &Resource,
    ) -> Result<(), Error> {
        if !self.adopts() {
            return Ok(());
        }
        match self.adopt(output, resource).await {
            Ok(None) => {}
            Ok(Some((from, bytes))) => {
                let message = format!(
                    "{} is continued: another program left {} of the object in it",
                    from.display(),
                    size_words(bytes)
                );
                self.notice(NoticeCode::Adopted, message);
            }
            // A file that is of no use is replaced in the end, if it may be.
            Err(error)
                if self.options.existing == Existing::Replace
                    && error.kind() == ErrorKind::OutputExists =>
            {
                self.notice(NoticeCode::Restarted, format!("{error}, until it is replaced"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether what this run had taken over is back where it was, in the way of a new start.
    pub(super) fn is_given_back(&self) -> bool {
        let Some(output) = self.storing.output().filter(|_| self.options.continues_foreign())
        else {
            return false;
        };
        let paths = self.options.paths(output);
        let stays = self.options.existing.keeps_old();
        refuse_foreign(&paths).is_err() || stays && refuse_finished(&paths, true).is_err()
    }

    /// The file that was taken over, and how many of its bytes.
    async fn adopt(
        &mut self,
        output: &Path,
        resource: &Resource,
    ) -> Result<Option<(PathBuf, u64)>, Error> {
        let paths = self.options.paths(output);
        let (of, has_digest) = (resource.clone(), self.options.is_proven_by_digest());
        let seed = self.options.seed;
        let look_into = move || look_into_leftover(&paths, &of, has_digest, seed);
        let Some(leftover) = self.blocking(look_into).await?? else { return Ok(None) };
        let request = self.request_for(output.to_owned(), resource);
        self.compare_leftover(&leftover, &request).await?;
        let from = leftover.found.path.clone();
        let take_over = move || adopt(&request, leftover);
        let bytes = self.blocking(take_over).await??;
        Ok(Some((from, bytes)))
    }

    /// Fetches parts of what is there again.
    ///
    /// # Errors
    /// If they are not the same, or cannot be fetched.
    async fn compare_leftover(
        &mut self,
        leftover: &Leftover,
        request: &output::Request,
    ) -> Result<(), Error> {
        let Leftover { found, samples, .. } = leftover;
        let Some(proof) = Proof::of_bytes(samples.iter().cloned()) else { return Ok(()) };
        let path = found.path.display();
        let shows = format!(
            "{path} was left as it is: the parts of the object that would show whether it is of \
             the object"
        );
        match self.sends(&proof, request, &shows).await? {
            true => Ok(()),
            false => Err(differs(found, samples.len())),
        }
    }
}

fn differs(found: &Found, samples: usize) -> Error {
    let why = match samples {
        1 => "what is in it, fetched again, is not the same".to_owned(),
        count => format!("of {count} parts of it, fetched again, one is not the same"),
    };
    let why = format!("{why}, so it is of another object or version");
    found.refused(why, MOVE_HINT)
}
