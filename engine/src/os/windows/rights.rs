//! Who may read a file, which on Windows is inherited from its directory.

use std::fs::File;
use std::io;

use super::calls;

/// The rights to read a file's data, all rights, and all rights to read.
const READ: u32 = 0x1 | 0x1000_0000 | 0x8000_0000;

/// Those who can read everything in any case (the system and administrators), and those who stand
/// for the owner and for programs of the user.
const ALWAYS: [&str; 8] = ["SY", "BA", "LA", "DA", "OW", "CO", "CG", "AC"];

/// The same for kinds of accounts that have no short name: creators, services, apps and sessions.
const ALWAYS_BEGIN: [&str; 4] = ["S-1-3-", "S-1-5-80-", "S-1-15-", "S-1-5-5-"];

/// The accounts and groups, beside its owner, this user and administrators, that may read a file.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn open_to_others(file: &File) -> io::Result<Option<String>> {
    let (rights, user) = (calls::rights(file)?, calls::user()?);
    let found = others(&rights, &user);
    Ok((!found.is_empty()).then(|| found.join(", ")))
}

/// Reads the owner and the list of rights in the language that the system writes them in (SDDL):
/// `O:OWNERD:FLAGS(TYPE;FLAGS;RIGHTS;;;ACCOUNT)(...)`.
fn others<'a>(rights: &'a str, user: &str) -> Vec<&'a str> {
    let Some((owner, list)) = rights.split_once("D:") else { return vec!["Everyone"] };
    if list.contains("NO_ACCESS_CONTROL") {
        return vec!["Everyone"];
    }
    let owner = owner.trim_start_matches("O:");
    let (mut denied, mut found) = (Vec::new(), Vec::new());
    for entry in list.split('(').skip(1) {
        let fields: Vec<&str> = entry.trim_end_matches(')').split(';').collect();
        let [kind, flags, allows, _, _, account, ..] = fields[..] else { continue };
        // Some count only for what is created in a directory.
        if pairs(flags).any(|flag| flag == "IO") || !can_read(allows) {
            continue;
        }
        let is_other = account != owner
            && account != user
            && !ALWAYS.contains(&account)
            && !ALWAYS_BEGIN.iter().any(|begin| account.starts_with(begin));
        match kind {
            "D" | "XD" => denied.push(account),
            "A" | "XA" if is_other && !denied.contains(&account) => found.push(name(account)),
            _ => {}
        }
    }
    found.dedup();
    found
}

/// Whether rights, as a number or as a row of short names, are enough to read.
fn can_read(rights: &str) -> bool {
    match rights.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).is_ok_and(|rights| rights & READ != 0),
        None => pairs(rights).any(|right| ["GA", "GR", "FA", "FR", "CC"].contains(&right)),
    }
}

fn pairs(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len()).step_by(2).filter_map(|at| text.get(at..at + 2))
}

/// How Windows calls a group in English, or its number.
fn name(account: &str) -> &str {
    match account {
        "WD" => "Everyone",
        "AU" => "Authenticated Users",
        "BU" => "Users",
        "BG" => "Guests",
        "IU" => "Interactive",
        "AN" => "Anonymous",
        number => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "S-1-5-21-1-2-3-1001";

    #[track_caller]
    fn check(rights: &str, expected: &[&str]) {
        assert_eq!(others(rights, USER), expected, "{rights}");
    }

    #[test]
    fn a_profile_is_open_to_nobody_else_and_a_drive_is_to_its_users() {
        check(
            "O:S-1-5-21-1-2-3-1001D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;FA;;;S-1-5-21-1-2-3-1001)",
            &[],
        );
        // As an administrator makes it.
        check("O:BAD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;FA;;;S-1-5-21-1-2-3-1001)", &[]);
        check(
            "O:BAD:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;ID;0x1301bf;;;AU)(A;ID;0x1200a9;;;BU)",
            &["Authenticated Users", "Users"],
        );
        check("O:BAD:(A;;FA;;;S-1-5-21-1-2-3-1002)", &["S-1-5-21-1-2-3-1002"]);
        check("O:S-1-5-21-1-2-3-1002D:(A;;FA;;;S-1-5-21-1-2-3-1002)", &[]);
    }

    #[test]
    fn without_a_list_everyone_may_and_with_an_empty_one_nobody() {
        check("O:BAD:NO_ACCESS_CONTROL", &["Everyone"]);
        check("O:BA", &["Everyone"]);
        check("O:BAD:P", &[]);
    }

    #[test]
    fn only_what_lets_someone_read_this_file_counts() {
        check("O:BAD:(A;CIOI;FA;;;WD)", &["Everyone"]);
        check("O:BAD:(A;OICIIO;FA;;;WD)", &[]);
        check("O:BAD:(A;;FW;;;WD)(A;;0x100116;;;BU)(A;;SDRC;;;BG)", &[]);
        check("O:BAD:(A;;GR;;;WD)(A;;CCSD;;;BG)", &["Everyone", "Guests"]);
        check("O:BAD:(D;;FR;;;WD)(A;;FA;;;WD)", &[]);
        check("O:BAD:(D;;FW;;;WD)(A;;FR;;;WD)", &["Everyone"]);
        check("O:BAD:(A;;FA;;;S-1-15-2-1)(A;;FA;;;S-1-5-80-956)(A;;FA;;;OW)", &[]);
        check("O:BAD:(XA;;FR;;;BU;(exists x))", &["Users"]);
    }

    #[test]
    fn the_system_tells_of_a_real_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("film");
        let file = File::create_new(&path).unwrap();
        let own = format!("D:P(A;;FA;;;{})", calls::user().unwrap());
        calls::set_rights(&path, &own).unwrap();
        assert_eq!(open_to_others(&file).unwrap(), None);
        calls::set_rights(&path, &format!("{own}(A;;FR;;;WD)")).unwrap();
        assert_eq!(open_to_others(&file).unwrap().as_deref(), Some("Everyone"));
    }
}
