//! What the benchmarks of the model need of it. Not part of the interface.

pub use crate::model::checkpoint::{Checkpoint, SegmentRecord, UrlIdentity};
pub use crate::model::concurrency;
pub use crate::model::digest_tree::root;
pub use crate::model::planner::{
    Action, FIRST_RANGE_BYTES, LeaseEnd, LeaseId, Planner, Restored, Settings,
};
pub use crate::model::range::ByteRange;
pub use crate::model::resource::Resource;
pub use crate::model::response::Verdict;
pub use crate::model::segment::{SegmentMap, SegmentState};
pub use crate::model::validator::{EntityTag, Validator};
