//! Statement text with numbered parameters plus its values, and the rows that come back: the same on both databases.

use std::borrow::Cow;
use std::fmt::Write as _;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Postgres, Row as _, Sqlite, Type};

use crate::error::{Error, Result};

/// What a parameter of a statement is bound to.
#[derive(Clone)]
pub(in crate::catalogue) enum Value {
    /// SQL null; PostgreSQL infers its type from the context.
    Null,
    /// `bigint`.
    Integer(i64),
    /// `text`.
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// A set of texts for [`Dialect::any`](super::dialect::Dialect::any): `text[]`, in SQLite a JSON array.
    Texts(Vec<String>),
    /// A set of integers for [`Dialect::any`](super::dialect::Dialect::any): `bigint[]`, in SQLite a JSON array.
    Integers(Vec<i64>),
    /// A column of rows to insert; made by [`super::rows`] for PostgreSQL alone.
    TextColumn(Vec<Option<String>>),
    /// A column of rows to insert; made by [`super::rows`] for PostgreSQL alone.
    IntegerColumn(Vec<Option<i64>>),
    /// A column of rows to insert; made by [`super::rows`] for PostgreSQL alone.
    BytesColumn(Vec<Option<Vec<u8>>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<Vec<String>> for Value {
    fn from(value: Vec<String>) -> Self {
        Self::Texts(value)
    }
}

impl From<Vec<i64>> for Value {
    fn from(value: Vec<i64>) -> Self {
        Self::Integers(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A statement: text with parameters `$1`, `$2` and so on, which SQLite takes as well, and their values.
///
/// Values never become part of the text. Integers that come back must be `bigint` (cast where PostgreSQL makes an `integer`).
#[derive(Clone, Default)]
pub(in crate::catalogue) struct Statement {
    text: Cow<'static, str>,
    values: Vec<Value>,
}

impl Statement {
    /// A statement whose text is known; [`Statement::with`] binds its parameters in order.
    pub(in crate::catalogue) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// Binds the next parameter.
    #[must_use]
    pub(in crate::catalogue) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Appends text of our own.
    pub(in crate::catalogue) fn push(&mut self, text: &str) -> &mut Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// Binds a value and returns the number of its parameter, for a text that names it more than once.
    pub(in crate::catalogue) fn bind(&mut self, value: impl Into<Value>) -> usize {
        self.values.push(value.into());
        self.values.len()
    }

    /// Appends a parameter and binds it.
    pub(in crate::catalogue) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        let number = self.bind(value);
        // writing to a string cannot fail
        let _ = write!(self.text.to_mut(), "${number}");
        self
    }

    /// How many values are bound.
    pub(in crate::catalogue) fn values(&self) -> usize {
        self.values.len()
    }

    /// Appends a statement that SQLite runs after this one. Of the parameters of both, numbered ones must be in order and each
    /// used once: where several statements go together, SQLite's driver counts parameters without numbers only.
    pub(in crate::catalogue) fn append(&mut self, next: Self) -> Result<&mut Self> {
        let given = next.text.matches(['$', '?']).count();
        if given != next.values.len() {
            return Err(Error::internal("a statement of several does not have a value for each of its parameters"));
        }
        let mut pieces = next.text.split('$');
        let text = self.text.to_mut();
        text.push_str(pieces.next().unwrap_or_default());
        for (number, piece) in (1..).zip(pieces) {
            let rest = piece.trim_start_matches(|letter: char| letter.is_ascii_digit());
            if piece.strip_suffix(rest).and_then(|digits| digits.parse().ok()) != Some(number) {
                return Err(Error::internal("a statement of several does not use its parameters in order"));
            }
            text.push('?');
            text.push_str(rest);
        }
        self.values.extend(next.values);
        Ok(self)
    }

    /// The text, for tests.
    #[cfg(test)]
    pub(in crate::catalogue) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn sqlite(self) -> Result<Query<'static, Sqlite, SqliteArguments>> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(self.values.len(), 0);
        for value in self.values {
            match value {
                Value::Null => sqlx::Arguments::add(&mut arguments, None::<i64>),
                Value::Integer(value) => sqlx::Arguments::add(&mut arguments, value),
                Value::Text(value) => sqlx::Arguments::add(&mut arguments, value),
                Value::Bytes(value) => sqlx::Arguments::add(&mut arguments, value),
                Value::Texts(values) => sqlx::Arguments::add(&mut arguments, json(&values)?),
                Value::Integers(values) => sqlx::Arguments::add(&mut arguments, json(&values)?),
                Value::TextColumn(_) | Value::IntegerColumn(_) | Value::BytesColumn(_) => {
                    return Err(Error::internal("a column of rows was bound to a statement of SQLite"));
                }
            }
            .map_err(unbindable)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.text), arguments))
    }

    pub(super) fn postgres(self) -> Result<Query<'static, Postgres, PgArguments>> {
        let mut arguments = PgArguments::default();
        arguments.reserve(self.values.len(), 0);
        for value in self.values {
            match value {
                Value::Null => arguments.add(Untyped),
                Value::Integer(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Bytes(value) => arguments.add(value),
                Value::Texts(values) => arguments.add(values),
                Value::Integers(values) => arguments.add(values),
                Value::TextColumn(values) => arguments.add(values),
                Value::IntegerColumn(values) => arguments.add(values),
                Value::BytesColumn(values) => arguments.add(values),
            }
            .map_err(unbindable)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.text), arguments))
    }
}

fn json<T: serde::Serialize>(values: &[T]) -> Result<String> {
    serde_json::to_string(values).map_err(|error| unbindable(error.into()))
}

fn unbindable(error: BoxDynError) -> Error {
    Error::internal("a value cannot be bound to a statement").caused_by(error)
}

/// A null without a type: a null typed as text would make PostgreSQL refuse a statement over a `bigint` column.
struct Untyped;

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        // the pseudo-type `unknown`
        PgTypeInfo::with_oid(Oid(705))
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// A row; columns are asked for by position, from 0.
pub(in crate::catalogue) enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
}

macro_rules! column {
    ($row:expr, $column:expr, $type:ty) => {
        match $row {
            // SQLite's values have the type that the strict tables gave them, or that of the expression
            Row::Sqlite(row) => row.try_get_unchecked::<$type, _>($column),
            Row::Postgres(row) => row.try_get::<$type, _>($column),
        }
        .map_err(|error| Error::internal("a row of the index is not as expected").caused_by(error))
    };
}

impl Row {
    /// A `bigint`.
    pub(in crate::catalogue) fn integer(&self, column: usize) -> Result<i64> {
        column!(self, column, i64)
    }

    /// A `bigint` or null.
    pub(in crate::catalogue) fn optional_integer(&self, column: usize) -> Result<Option<i64>> {
        column!(self, column, Option<i64>)
    }

    /// A `text`.
    pub(in crate::catalogue) fn text(&self, column: usize) -> Result<&str> {
        column!(self, column, &str)
    }

    /// A `text` or null.
    pub(in crate::catalogue) fn optional_text(&self, column: usize) -> Result<Option<&str>> {
        column!(self, column, Option<&str>)
    }

    /// A `bytea`.
    pub(in crate::catalogue) fn bytes(&self, column: usize) -> Result<&[u8]> {
        column!(self, column, &[u8])
    }

    /// A `bigint` that counts something.
    pub(in crate::catalogue) fn count(&self, column: usize) -> Result<u64> {
        u64::try_from(self.integer(column)?).map_err(|_| Error::internal("a count in the index is negative"))
    }
}
