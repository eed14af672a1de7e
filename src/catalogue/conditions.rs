//! The conditions of a search as SQL: values bound, never in the text.
//!
//! Each predicate is true exactly where [`SearchQuery::matches`](crate::dicom::query::SearchQuery::matches) is; null is not
//! true. Ranges and prefixes are written so that the indexes of the migrations serve them.

use dicom_core::VR;

use super::dialect::Dialect;
use super::sql::Statement;
use crate::dicom::query::{Condition, NameGroups, SearchKey, Test, is_universal, name_groups};
use crate::dicom::uid::Level;

/// Nothing satisfies it.
const NEVER: &str = "1 = 0";

/// Appends a condition of a search at this level, whose statement has the tables `st`, `se` and `i` as far as the level
/// goes. `date` is how to write the Study Date: by the expression that an index has, or not by it.
pub(super) fn push_condition(
    statement: &mut Statement,
    dialect: Dialect,
    level: Level,
    date: &str,
    condition: &Condition,
) {
    let Condition { key, test } = condition;
    if key.level() > level || !test.fits(key.vr()) {
        statement.push(NEVER);
        return;
    }
    if *key == SearchKey::ModalitiesInStudy {
        statement.push("exists (select 1 from series m where m.study_id = st.id and m.instance_count > 0 and ");
        push_text(statement, dialect, "m.modality", test);
        // without the limit SQLite makes a join of it, whose further rows an offset does not skip (found in 3.51.3)
        statement.push(" limit 1)");
        return;
    }
    let column = format!("{}.{}", alias(key.level()), key.column());
    match key.vr() {
        VR::PN => push_name(statement, dialect, &column, test),
        VR::DA if *key == SearchKey::StudyDate => push_dates(statement, date, test),
        VR::DA => push_dates(statement, &column, test),
        VR::TM | VR::IS => push_number(statement, &column, test),
        VR::DT => push_moments(statement, date, test),
        _ => push_text(statement, dialect, &column, test),
    }
}

fn alias(level: Level) -> &'static str {
    match level {
        Level::Study => "st",
        Level::Series => "se",
        Level::Instance => "i",
    }
}

fn push_text(statement: &mut Statement, dialect: Dialect, column: &str, test: &Test) {
    match test {
        Test::Text(text) => push_any_of(statement, dialect, column, std::slice::from_ref(text)),
        Test::AnyOf(texts) => push_any_of(statement, dialect, column, texts),
        Test::Wildcard(pattern) => push_pattern(statement, dialect, column, pattern),
        Test::Name(_) | Test::Integer(_) | Test::Dates(..) | Test::Times(..) | Test::Moments(..) => {
            statement.push(NEVER);
        }
    }
}

/// Equal to one of the texts; an empty value is equal to none.
fn push_any_of(statement: &mut Statement, dialect: Dialect, column: &str, texts: &[String]) {
    let mut texts: Vec<String> = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
    match (texts.pop(), texts.is_empty()) {
        (None, _) => statement.push(NEVER),
        (Some(text), true) => statement.push(column).push(" = ").push_bind(text),
        (Some(text), false) => {
            texts.push(text);
            let number = statement.bind(texts);
            statement.push(column).push(" ").push(&dialect.any(number))
        }
    };
}

/// Matches a pattern of `*` and `?`; an empty value matches none.
fn push_pattern(statement: &mut Statement, dialect: Dialect, column: &str, pattern: &str) {
    if pattern.is_empty() {
        statement.push(NEVER);
        return;
    }
    if is_universal(pattern) {
        statement.push(column).push(" <> ''");
        return;
    }
    statement.push("(");
    // the range lets an index find the prefix, whatever the planner makes of a bound pattern
    let prefix = prefix(pattern);
    if !prefix.is_empty() {
        statement.push(column).push(" >= ").push_bind(prefix).push(" and ");
        if let Some(end) = successor(prefix) {
            statement.push(column).push(" < ").push_bind(end).push(" and ");
        }
    }
    statement.push(column).push(dialect.pattern_operator()).push_bind(dialect.pattern(pattern)).push(")");
}

/// The part of a pattern before its first wildcard.
pub(super) fn prefix(pattern: &str) -> &str {
    pattern.split(['*', '?']).next().unwrap_or_default()
}

/// The least text that is greater than every text with this prefix, by code points as both databases compare.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = if last == '\u{D7FF}' { 0xE000 } else { u32::from(last) + 1 };
        if let Some(next) = char::from_u32(next) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

fn push_name(statement: &mut Statement, dialect: Dialect, column: &str, test: &Test) {
    let Test::Name(key) = test else {
        statement.push(NEVER);
        return;
    };
    let columns = [column.to_owned(), format!("{column}_ideographic"), format!("{column}_phonetic")];
    let (patterns, between) = match name_groups(key) {
        NameGroups::Any(pattern) => ([Some(pattern); 3], " or "),
        // it asks nothing of any group, but still for a name
        NameGroups::Each([None, None, None]) => ([Some("*"); 3], " or "),
        NameGroups::Each(patterns) => (patterns, " and "),
    };
    let mut opening = "(";
    for (column, pattern) in columns.iter().zip(patterns) {
        let Some(pattern) = pattern else { continue };
        statement.push(opening);
        opening = between;
        push_group(statement, dialect, column, pattern);
    }
    statement.push(")");
}

/// One component group of a name against its pattern, which may be a plain text.
pub(super) fn push_group(statement: &mut Statement, dialect: Dialect, column: &str, pattern: &str) {
    if pattern.contains(['*', '?']) {
        push_pattern(statement, dialect, column, pattern);
    } else {
        push_any_of(statement, dialect, column, &[pattern.to_owned()]);
    }
}

fn push_dates(statement: &mut Statement, column: &str, test: &Test) {
    let Test::Dates(from, to) = test else {
        statement.push(NEVER);
        return;
    };
    match (from, to) {
        (Some(from), Some(to)) if from == to && !from.is_empty() => {
            statement.push(column).push(" = ").push_bind(from.as_str());
        }
        _ => {
            push_lower_date(statement, column, from.as_deref());
            if let Some(to) = to {
                statement.push(" and ").push(column).push(" <= ").push_bind(to.as_str());
            }
        }
    }
}

/// A missing date is null or, with the order's expression, empty: less than every date.
fn push_lower_date(statement: &mut Statement, column: &str, from: Option<&str>) {
    match from {
        Some(from) if !from.is_empty() => statement.push(column).push(" >= ").push_bind(from),
        _ => statement.push(column).push(" > ''"),
    };
}

fn push_number(statement: &mut Statement, column: &str, test: &Test) {
    match test {
        Test::Integer(number) => {
            statement.push(column).push(" = ").push_bind(*number);
        }
        Test::Times(from, to) => {
            statement.push(column).push(" is not null");
            push_bound(statement, column, " >= ", *from);
            push_bound(statement, column, " <= ", *to);
        }
        Test::Text(_) | Test::AnyOf(_) | Test::Wildcard(_) | Test::Name(_) | Test::Dates(..) | Test::Moments(..) => {
            statement.push(NEVER);
        }
    }
}

fn push_bound(statement: &mut Statement, column: &str, operator: &str, bound: Option<i64>) {
    if let Some(bound) = bound {
        statement.push(" and ").push(column).push(operator).push_bind(bound);
    }
}

/// Date and time as one; the date alone is compared first, for the index.
fn push_moments(statement: &mut Statement, column: &str, test: &Test) {
    let Test::Moments(from, to) = test else {
        statement.push(NEVER);
        return;
    };
    push_lower_date(statement, column, from.as_ref().map(|(date, _)| date.as_str()));
    push_moment(statement, " > ", " >= ", from.as_ref());
    if let Some((date, _)) = to {
        statement.push(" and ").push(column).push(" <= ").push_bind(date.as_str());
    }
    push_moment(statement, " < ", " <= ", to.as_ref());
}

fn push_moment(statement: &mut Statement, beyond: &str, until: &str, moment: Option<&(String, i64)>) {
    let Some((date, time)) = moment else { return };
    statement.push(" and (st.study_date").push(beyond).push_bind(date.as_str());
    statement.push(" or (st.study_date = ").push_bind(date.as_str());
    statement.push(" and coalesce(st.study_time, 0)").push(until).push_bind(*time).push("))");
}
