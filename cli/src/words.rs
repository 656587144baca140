//! Splits the text of a command into words as a shell would, with nothing expanded and no shell
//! started.

/// The words of a command that names its program first.
///
/// # Errors
/// As [`split`], and where there is no program.
pub(crate) fn command(text: &str) -> Result<Vec<String>, String> {
    let words = split(text)?;
    match words.first().is_none_or(String::is_empty) {
        true => Err("it names no command".to_owned()),
        false => Ok(words),
    }
}

/// The words of a text. White space separates them, except in single and double quotes and after a
/// backslash. Single quotes keep everything literal; in double quotes a backslash is special only
/// before `"` and `\`.
///
/// # Errors
/// What is not closed, in words.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match character {
            '\\' => word.push(rest.next().ok_or("nothing follows its last backslash")?),
            '\'' => loop {
                match rest.next().ok_or("a single quote is not closed")? {
                    '\'' => break,
                    other => word.push(other),
                }
            },
            '"' => loop {
                match rest.next().ok_or("a double quote is not closed")? {
                    '"' => break,
                    '\\' => match rest.next().ok_or("a double quote is not closed")? {
                        escaped @ ('"' | '\\') => word.push(escaped),
                        other => word.extend(['\\', other]),
                    },
                    other => word.push(other),
                }
            },
            other => word.push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_those_of_a_shell_without_expansion() {
        for (text, words) in [
            ("a  b\tc\n", &["a", "b", "c"][..]),
            ("mv {} '/a b/'", &["mv", "{}", "/a b/"]),
            (r#"x"a b"'c d'e\ f"#, &["xa bc de f"]),
            (r#""\"\\\x" '\'"#, &[r#""\\x"#, r"\"]),
            ("'' \"\"", &["", ""]),
            ("$HOME `x` *.c ~", &["$HOME", "`x`", "*.c", "~"]),
            ("", &[]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        for open in ["'a", "\"a", "a\\", "\"\\"] {
            assert!(split(open).is_err(), "{open}");
        }
    }
}
