//! The few differences between the two databases, as methods of one enum.

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::catalogue) enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// A condition that an expression is one of the set bound to this parameter
    /// ([`Value::Texts`](super::sql::Value::Texts), [`Value::Integers`](super::sql::Value::Integers)):
    /// `format!("study_uid {}", dialect.any(1))`. The text is the same for a set of any size, so the statement stays prepared.
    pub(in crate::catalogue) fn any(self, parameter: usize) -> String {
        match self {
            Self::Sqlite => format!("in (select value from json_each(${parameter}))"),
            Self::Postgres => format!("= any(${parameter})"),
        }
    }

    /// The operator that matches a text against a pattern made by [`Dialect::pattern`], by case.
    pub(in crate::catalogue) fn pattern_operator(self) -> &'static str {
        match self {
            // its `like` ignores the case of ASCII letters
            Self::Sqlite => " glob ",
            Self::Postgres => " like ",
        }
    }

    /// A pattern of `*` (any run) and `?` (one character), everything else literal, as the operator wants it.
    pub(in crate::catalogue) fn pattern(self, pattern: &str) -> String {
        let mut text = String::with_capacity(pattern.len() + 8);
        for letter in pattern.chars() {
            match (self, letter) {
                // a set of one
                (Self::Sqlite, '[') => text.push_str("[[]"),
                (Self::Postgres, '*') => text.push('%'),
                (Self::Postgres, '?') => text.push('_'),
                (Self::Postgres, '%' | '_' | '\\') => text.extend(['\\', letter]),
                (Self::Sqlite | Self::Postgres, _) => text.push(letter),
            }
        }
        text
    }

    /// Joins a table that is to be read after those before it.
    pub(in crate::catalogue) fn ordered_join(self) -> &'static str {
        match self {
            // keeps the order of the tables
            Self::Sqlite => " cross join ",
            Self::Postgres => " join ",
        }
    }

    /// Begins an order that the planner should sort for, since few rows are expected.
    pub(in crate::catalogue) fn order_by_sorting(self) -> &'static str {
        match self {
            // what is no column or expression of an index cannot be read in the order of one
            Self::Sqlite => " order by +",
            Self::Postgres => " order by ",
        }
    }

    /// The time of the database in milliseconds since 1970-01-01 UTC, so that leases do not depend on the clocks of the servers.
    pub(in crate::catalogue) fn now_millis(self) -> &'static str {
        match self {
            Self::Sqlite => "cast(unixepoch('subsec') * 1000 as integer)",
            // the same throughout a statement, as in SQLite
            Self::Postgres => "(extract(epoch from statement_timestamp()) * 1000)::bigint",
        }
    }
}
