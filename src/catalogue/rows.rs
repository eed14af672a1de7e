//! Inserting many rows in few statements whose texts are few, so that they stay prepared.

use std::borrow::Cow;

use super::MAIN_PARTITION;
use super::dialect::Dialect;
use super::sql::{Statement, Value};
use crate::error::{Error, Result};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    Bytes,
    /// The id of a study, for which the row has the UID.
    StudyId,
    /// The id of the instance that is visible under the UID that the row has.
    InstanceId,
}

impl Kind {
    fn array(self) -> &'static str {
        match self {
            Self::Integer => "bigint[]",
            Self::Text | Self::StudyId | Self::InstanceId => "text[]",
            Self::Bytes => "bytea[]",
        }
    }

    /// The value of the column, made from what the row has.
    fn expression(self, given: &str) -> Cow<'_, str> {
        match self {
            Self::Integer | Self::Text | Self::Bytes => given.into(),
            Self::StudyId => {
                format!("(select id from studies where partition_id = {MAIN_PARTITION} and study_uid = {given})").into()
            }
            Self::InstanceId => format!(
                "(select id from instances where partition_id = {MAIN_PARTITION} and hidden = 0 and sop_instance_uid = {given})"
            )
            .into(),
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

/// Most rows of one SQLite statement: with 26 columns far below its limit of 32,766 parameters.
const SQLITE_ROWS: usize = 64;

impl Insert {
    /// The statements that insert the rows; what they return comes in any order.
    pub(super) fn statements(self, dialect: Dialect) -> Result<Vec<Statement>> {
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
                for (column, ((_, kind), value)) in self.columns.iter().zip(row).enumerate() {
                    if column > 0 {
                        statement.push(", ");
                    }
                    // without a number: SQLite looks for the name of each parameter from the first on
                    statement.push(&kind.expression("?"));
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
        let list = |column: &dyn Fn(usize, &Column) -> String| {
            (1..).zip(self.columns).map(|(number, one)| column(number, one)).collect::<Vec<_>>().join(", ")
        };
        let names = list(&|_, (name, _)| (*name).to_owned());
        let values = list(&|number, (_, kind)| kind.expression(&format!("c{number}")).into_owned());
        let arrays = list(&|number, (_, kind)| format!("${number}::{}", kind.array()));
        let given = list(&|number, _| format!("c{number}"));
        let text = format!(
            "insert into {} ({names}) select {values} from unnest({arrays}) as given ({given}) {}",
            self.table, self.tail
        );
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
        Kind::Text | Kind::StudyId | Kind::InstanceId => Value::TextColumn(Vec::with_capacity(rows)),
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
            "insert into t (a, b) select c1, c2 from unnest($1::bigint[], $2::text[]) as given (c1, c2) on conflict do nothing"
        );
    }

    #[test]
    fn no_rows_need_no_statement() {
        assert!(insert(0).statements(Dialect::Sqlite).unwrap().is_empty());
        assert!(insert(0).statements(Dialect::Postgres).unwrap().is_empty());
    }
}
