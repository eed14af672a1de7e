//! Inserting many rows in few statements whose texts are few, so that they stay prepared.

use std::fmt::Write as _;

use super::database::Transaction;
use super::dialect::Dialect;
use super::sql::{Row, Statement, Value};
use crate::error::{Error, Result};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    Bytes,
}

impl Kind {
    fn array(self) -> &'static str {
        match self {
            Self::Integer => "bigint[]",
            Self::Text => "text[]",
            Self::Bytes => "bytea[]",
        }
    }
}

/// A column and its type.
pub(super) type Column = (&'static str, Kind);

/// The rows of one `insert into table (columns) … tail`. They are inserted in the given order.
///
/// PostgreSQL gets all rows in one statement, an array per column. SQLite gets lists of values, in portions of powers of two.
pub(super) struct Insert {
    pub(super) table: &'static str,
    pub(super) columns: &'static [Column],
    /// What follows the values: `on conflict …`, `returning …`.
    pub(super) tail: &'static str,
    pub(super) rows: Vec<Vec<Value>>,
}

/// Most rows of one SQLite statement: with 22 columns far below its limit of 32,766 parameters.
const SQLITE_ROWS: usize = 64;

impl Insert {
    /// Runs it; how many rows were inserted or updated.
    pub(super) async fn execute(self, transaction: &mut Transaction) -> Result<u64> {
        let mut affected = 0;
        for statement in self.statements(transaction.dialect())? {
            affected += transaction.execute(statement).await?;
        }
        Ok(affected)
    }

    /// Runs it; the rows of its `returning`, in any order.
    pub(super) async fn fetch(self, transaction: &mut Transaction) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(self.rows.len());
        for statement in self.statements(transaction.dialect())? {
            rows.append(&mut transaction.fetch_all(statement).await?);
        }
        Ok(rows)
    }

    fn statements(self, dialect: Dialect) -> Result<Vec<Statement>> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        match dialect {
            Dialect::Sqlite => Ok(self.portions()),
            Dialect::Postgres => Ok(vec![self.unnested()?]),
        }
    }

    fn portions(self) -> Vec<Statement> {
        let mut statements = Vec::new();
        let mut rows = self.rows.into_iter();
        while rows.len() > 0 {
            // the largest power of two that is not more than what is left
            let portion = (1_usize << rows.len().ilog2()).min(SQLITE_ROWS);
            let mut statement = Statement::new(format!("insert into {} (", self.table));
            push_names(&mut statement, self.columns);
            statement.push(") values ");
            for (number, row) in rows.by_ref().take(portion).enumerate() {
                statement.push(if number == 0 { "(" } else { ", (" });
                for (column, value) in row.into_iter().enumerate() {
                    if column > 0 {
                        statement.push(", ");
                    }
                    // without a number: SQLite looks for the name of each parameter from the first on
                    statement.push("?");
                    statement.bind(value);
                }
                statement.push(")");
            }
            statement.push(" ").push(self.tail);
            statements.push(statement);
        }
        statements
    }

    fn unnested(self) -> Result<Statement> {
        let mut text = format!("insert into {} (", self.table);
        let names = self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        // writing to a string cannot fail
        let _ = write!(text, "{names}) select * from unnest(");
        for (number, (_, kind)) in (1..).zip(self.columns) {
            let _ = write!(text, "{}${number}::{}", if number == 1 { "" } else { ", " }, kind.array());
        }
        let _ = write!(text, ") {}", self.tail);
        let mut columns: Vec<Value> = self.columns.iter().map(|(_, kind)| empty(*kind, self.rows.len())).collect();
        for row in self.rows {
            for (column, value) in columns.iter_mut().zip(row) {
                append(column, value)?;
            }
        }
        Ok(columns.into_iter().fold(Statement::new(text), Statement::with))
    }
}

fn push_names(statement: &mut Statement, columns: &[Column]) {
    for (number, (name, _)) in columns.iter().enumerate() {
        if number > 0 {
            statement.push(", ");
        }
        statement.push(name);
    }
}

fn empty(kind: Kind, rows: usize) -> Value {
    match kind {
        Kind::Integer => Value::IntegerColumn(Vec::with_capacity(rows)),
        Kind::Text => Value::TextColumn(Vec::with_capacity(rows)),
        Kind::Bytes => Value::BytesColumn(Vec::with_capacity(rows)),
    }
}

fn append(column: &mut Value, value: Value) -> Result<()> {
    match (column, value) {
        (Value::IntegerColumn(values), Value::Null) => values.push(None),
        (Value::IntegerColumn(values), Value::Integer(value)) => values.push(Some(value)),
        (Value::TextColumn(values), Value::Null) => values.push(None),
        (Value::TextColumn(values), Value::Text(value)) => values.push(Some(value)),
        (Value::BytesColumn(values), Value::Null) => values.push(None),
        (Value::BytesColumn(values), Value::Bytes(value)) => values.push(Some(value)),
        _ => return Err(Error::internal("a value to insert is not of the type of its column")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(rows: usize) -> Insert {
        Insert {
            table: "t",
            columns: &[("a", Kind::Integer), ("b", Kind::Text)],
            tail: "on conflict do nothing",
            rows: (0..rows).map(|_| vec![Value::Integer(1), Value::Null]).collect(),
        }
    }

    #[test]
    fn sqlite_gets_portions_of_powers_of_two() {
        let statements = insert(150).statements(Dialect::Sqlite).unwrap();
        let portions: Vec<usize> =
            statements.iter().map(|statement| statement.text().matches('?').count() / 2).collect();
        assert_eq!(portions, [64, 64, 16, 4, 2]);
        assert_eq!(statements[4].text(), "insert into t (a, b) values (?, ?), (?, ?) on conflict do nothing");
    }

    #[test]
    fn postgres_gets_one_statement_for_any_number_of_rows() {
        let statements = insert(150).statements(Dialect::Postgres).unwrap();
        assert_eq!(statements.len(), 1);
        assert_eq!(
            statements[0].text(),
            "insert into t (a, b) select * from unnest($1::bigint[], $2::text[]) on conflict do nothing"
        );
    }

    #[test]
    fn no_rows_need_no_statement() {
        assert!(insert(0).statements(Dialect::Sqlite).unwrap().is_empty());
        assert!(insert(0).statements(Dialect::Postgres).unwrap().is_empty());
    }
}
