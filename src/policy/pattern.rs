//! Texts with `*` and `?`, and with policy variables, compared in time bounded by both lengths' product, whatever they hold.
//!
//! A variable's value is plain text: a wildcard in it means itself. One that the request does not supply, or of which it
//! supplies several, makes the pattern match nothing.

use std::str::Chars;

use super::Malformed;
use super::context::{Context, Side};

/// What means something in a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// `*` and `?`.
    pub(super) wildcards: bool,
    /// `${name}`.
    pub(super) variables: bool,
}

/// Whether letters of ASCII are the same whatever their case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Sensitive,
    Ignored,
}

/// A text to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The letters that it begins with: by these most texts are told to be others.
    prefix: String,
    /// What is behind them.
    tokens: Vec<Token>,
    has_variables: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`
    One,
    /// `*`
    Any,
    Variable {
        name: String,
        otherwise: Option<String>,
    },
}

impl Pattern {
    pub(super) fn read(text: &str, reading: Reading) -> Result<Self, Malformed> {
        let (mut prefix, mut tokens, mut has_variables) = (String::new(), Vec::new(), false);
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            let token = match letter {
                '$' if reading.variables && rest.as_str().starts_with('{') => {
                    let (token, behind) = variable(&rest.as_str()[1..])?;
                    rest = behind.chars();
                    has_variables |= matches!(token, Token::Variable { .. });
                    token
                }
                '*' if reading.wildcards => Token::Any,
                '?' if reading.wildcards => Token::One,
                letter => Token::Letter(letter),
            };
            match token {
                Token::Letter(letter) if tokens.is_empty() => prefix.push(letter),
                // Two in a row mean what one does.
                Token::Any if tokens.last() == Some(&Token::Any) => {}
                token => tokens.push(token),
            }
        }
        Ok(Self { prefix, tokens, has_variables })
    }

    /// Whether it is `*`.
    pub(super) fn is_any(&self) -> bool {
        self.prefix.is_empty() && self.tokens == [Token::Any]
    }

    /// Whether it matches all of `subject`.
    pub(super) fn matches(&self, subject: &str, case: Case, context: &Context, side: Side) -> bool {
        let Some(rest) = self.behind_prefix(subject, case) else { return false };
        if !self.has_variables {
            return matches(&self.tokens, rest, case);
        }
        self.resolved(context, side).is_some_and(|tokens| matches(&tokens, rest, case))
    }

    /// [`Pattern::matches`], of a pattern in which variables mean nothing.
    pub(super) fn matches_plainly(&self, subject: &str, case: Case) -> bool {
        self.behind_prefix(subject, case).is_some_and(|rest| matches(&self.tokens, rest, case))
    }

    /// What of `subject` is behind the prefix, if it begins with that.
    fn behind_prefix<'a>(&self, subject: &'a str, case: Case) -> Option<&'a str> {
        let (begin, rest) = subject.split_at_checked(self.prefix.len())?;
        let same = match case {
            Case::Sensitive => begin == self.prefix,
            Case::Ignored => begin.eq_ignore_ascii_case(&self.prefix),
        };
        same.then_some(rest)
    }

    fn resolved(&self, context: &Context, side: Side) -> Option<Vec<Token>> {
        let mut tokens = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            match token {
                Token::Variable { name, otherwise } => {
                    let value = context.only(name, side).or(otherwise.as_deref())?;
                    tokens.extend(value.chars().map(Token::Letter));
                }
                token => tokens.push(token.clone()),
            }
        }
        Some(tokens)
    }
}

/// The token that `${` begins, of which `text` is the rest, and what is behind it.
fn variable(text: &str) -> Result<(Token, &str), Malformed> {
    let malformed = || Malformed::Variable(format!("${{{text}"));
    let (inside, behind) = text.split_once('}').ok_or_else(malformed)?;
    let token = match inside {
        "*" => Token::Letter('*'),
        "?" => Token::Letter('?'),
        "$" => Token::Letter('$'),
        inside => {
            let (name, otherwise) = match inside.split_once(',') {
                None => (inside.trim(), None),
                Some((name, otherwise)) => (name.trim(), Some(quoted(otherwise.trim()).ok_or_else(malformed)?)),
            };
            if name.is_empty() || name.contains(['$', '{', '*', '?']) {
                return Err(malformed());
            }
            Token::Variable { name: name.to_lowercase(), otherwise: otherwise.map(str::to_owned) }
        }
    };
    Ok((token, behind))
}

fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('\'')?.strip_suffix('\'')
}

impl Token {
    fn takes(&self, letter: char, case: Case) -> bool {
        match self {
            Self::Letter(own) if case == Case::Sensitive => *own == letter,
            Self::Letter(own) => own.eq_ignore_ascii_case(&letter),
            Self::One => true,
            Self::Any | Self::Variable { .. } => false,
        }
    }
}

/// Only the last `*` is ever gone back to: what an earlier one could take more of, the last one can take as well.
fn matches(tokens: &[Token], subject: &str, case: Case) -> bool {
    let (mut at, mut rest) = (0, subject.chars());
    let mut last_any: Option<(usize, Chars<'_>)> = None;
    loop {
        match tokens.get(at) {
            Some(Token::Any) => {
                at += 1;
                last_any = Some((at, rest.clone()));
                continue;
            }
            Some(token) => {
                let mut ahead = rest.clone();
                if ahead.next().is_some_and(|letter| token.takes(letter, case)) {
                    (at, rest) = (at + 1, ahead);
                    continue;
                }
            }
            None if rest.as_str().is_empty() => return true,
            None => {}
        }
        let Some((behind, from)) = &mut last_any else { return false };
        if from.next().is_none() {
            return false;
        }
        (at, rest) = (*behind, from.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reading = Reading { wildcards: true, variables: true };

    fn holds(pattern: &str, subject: &str) -> bool {
        let mut context = Context::default();
        context.set("aws:username", "al*ce");
        context.set_many("kms:ResourceAliases", ["alias/a", "alias/b"]);
        Pattern::read(pattern, ALL).expect("read").matches(subject, Case::Sensitive, &context, Side::Identity)
    }

    #[test]
    fn wildcards_stand_for_any_letters_and_for_one() {
        for (pattern, subject, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("?", "é", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("A", "a", false),
        ] {
            assert_eq!(holds(pattern, subject), expected, "{pattern} {subject}");
        }
        let letter = Pattern::read("KMS:en*", ALL).expect("read");
        assert!(letter.matches_plainly("kms:Encrypt", Case::Ignored));
    }

    #[test]
    fn a_variable_is_its_value_and_a_wildcard_in_it_is_a_letter() {
        for (pattern, subject, expected) in [
            ("user/${aws:username}", "user/al*ce", true),
            ("user/${aws:UserName}", "user/al*ce", true),
            ("user/${aws:username}", "user/alice", false),
            ("${aws:nobody}", "", false),
            ("${aws:nobody, 'guest'}/*", "guest/x", true),
            ("${*}${?}${$}", "*?$", true),
            ("${*}", "a", false),
            ("$x", "$x", true),
            ("${kms:ResourceAliases}", "alias/a", false),
        ] {
            assert_eq!(holds(pattern, subject), expected, "{pattern} {subject}");
        }
        for broken in ["${", "${}", "${a", "${a, b}", "a${${b}}"] {
            assert!(matches!(Pattern::read(broken, ALL), Err(Malformed::Variable(_))), "{broken}");
        }
    }

    #[test]
    fn many_wildcards_take_no_more_time_than_the_product_of_the_lengths() {
        let pattern = Pattern::read(&format!("{}b", "*a".repeat(1000)), ALL).expect("read");
        assert!(!pattern.matches_plainly(&"a".repeat(8000), Case::Sensitive));
    }
}
