//! How a search is read: which table comes first, in which order the answers come, and where a batch continues.
//!
//! SQLite keeps no statistics of a growing index, and would rather walk a million studies by date than sort two of them.
//! So its statements say which table to begin with (`cross join` keeps the order) and, by a `+`, whether an index is to
//! give the order. PostgreSQL knows better by itself.

use super::MAIN_PARTITION;
use super::conditions::{prefix, push_condition, push_group};
use super::dialect::Dialect;
use super::sql::{Statement, Value};
use crate::dicom::query::{Condition, NameGroups, SearchKey, SearchQuery, Test, name_groups};
use crate::dicom::uid::Level;

/// As the index `studies_order` has them.
const STUDY_DATE: &str = "coalesce(st.study_date, '')";
const STUDY_TIME: &str = "coalesce(st.study_time, -1)";

/// From so many letters on, the beginning of a value is worth an index.
const SELECTIVE_PREFIX: usize = 3;

/// What a search begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver<'a> {
    /// The studies in the order of the answers.
    Order,
    /// The studies, by an index of a condition; what was found is sorted.
    Studies,
    /// As before, by any component group of the patient's name.
    Name(&'a str),
    /// The series, by UID.
    Series,
    /// The instances, by UID.
    Instances,
}

/// A search taken apart.
pub(super) struct Plan<'a> {
    query: &'a SearchQuery,
    dialect: Dialect,
    driver: Driver<'a>,
    terms: Vec<Term>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(query: &'a SearchQuery, dialect: Dialect) -> Self {
        Self { query, dialect, driver: Driver::of(query), terms: order(query) }
    }

    /// The expressions by which the answers are ordered.
    pub(super) fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Appends ` from … where …`.
    pub(super) fn push_from(&self, statement: &mut Statement) {
        let level = self.query.level;
        self.push_tables(statement);
        statement.push(" where st.partition_id = ").push_bind(MAIN_PARTITION);
        // a study and its series stay when all of them is deleted
        statement.push(match level {
            Level::Study => " and st.instance_count > 0",
            Level::Series => " and se.instance_count > 0",
            Level::Instance => " and i.hidden = 0",
        });
        if self.driver == Driver::Instances {
            // said again, so that the index of visible UIDs serves; elsewhere it would tempt SQLite to read all of it
            statement.push(" and i.partition_id = ").push_bind(MAIN_PARTITION);
        }
        if let Some(study) = &self.query.study {
            statement.push(" and st.study_uid = ").push_bind(study.as_str());
        }
        match &self.query.series {
            Some(_) if level == Level::Study => {
                statement.push(" and 1 = 0");
            }
            Some(series) => {
                statement.push(" and se.series_uid = ").push_bind(series.as_str());
            }
            None => {}
        }
        let date = if self.driver == Driver::Order { STUDY_DATE } else { "st.study_date" };
        for condition in &self.query.conditions {
            statement.push(" and ");
            push_condition(statement, self.dialect, level, date, condition);
        }
    }

    fn push_tables(&self, statement: &mut Statement) {
        let level = self.query.level;
        let join = self.dialect.ordered_join();
        match self.driver {
            Driver::Instances => {
                statement.push(" from instances i");
                statement.push(join).push("series se on se.id = i.series_id");
                statement.push(join).push("studies st on st.id = se.study_id");
                return;
            }
            Driver::Series => {
                statement.push(" from series se").push(join).push("studies st on st.id = se.study_id");
            }
            Driver::Name(pattern) => {
                self.push_names(statement, pattern);
                statement.push(join).push("studies st on st.id = n.id");
            }
            Driver::Order | Driver::Studies => {
                statement.push(" from studies st");
            }
        }
        if level >= Level::Series && self.driver != Driver::Series {
            statement.push(join).push("series se on se.study_id = st.id");
        }
        if level == Level::Instance {
            statement.push(join).push("instances i on i.series_id = se.id");
        }
    }

    /// Appends ` from (…) n`: the studies of which any group of the patient's name matches, each once.
    fn push_names(&self, statement: &mut Statement, pattern: &str) {
        let mut opening = " from (select id from studies where partition_id = ";
        for column in ["patient_name", "patient_name_ideographic", "patient_name_phonetic"] {
            statement.push(opening).push_bind(MAIN_PARTITION).push(" and ");
            push_group(statement, self.dialect, column, pattern);
            opening = " union select id from studies where partition_id = ";
        }
        statement.push(") n");
    }

    /// Appends ` order by …`.
    pub(super) fn push_order(&self, statement: &mut Statement) {
        let mut opening = " order by ";
        if self.driver != Driver::Order && self.terms.first().is_some_and(|term| term.expression == STUDY_DATE) {
            opening = self.dialect.order_by_sorting();
        }
        for term in &self.terms {
            statement.push(opening).push(term.expression).push(if term.descending { " desc" } else { "" });
            opening = ", ";
        }
    }

    /// Appends ` and …` for what comes after the row with these values of the terms.
    pub(super) fn push_after(&self, statement: &mut Statement, values: &[Value]) {
        if let (Driver::Order, Some(term), Some(value)) = (self.driver, self.terms.first(), values.first()) {
            // for the index, which the disjunction below hides
            let operator = if term.descending { " <= " } else { " >= " };
            statement.push(" and ").push(term.expression).push(operator).push_bind(value.clone());
        }
        let mut opening = " and (";
        for (term, value) in self.terms.iter().zip(values) {
            let number = format!("${}", statement.bind(value.clone()));
            let operator = if term.descending { " < " } else { " > " };
            statement.push(opening).push(term.expression).push(operator).push(&number);
            statement.push(" or (").push(term.expression).push(" = ").push(&number);
            opening = " and (";
        }
        // equal in every term is the row itself
        statement.push(" and 1 = 0").push(&"))".repeat(self.terms.len()));
    }

    /// Appends `select …` that counts the matches: from the counters of studies or series, where nothing below them is asked.
    pub(super) fn push_count(&self, statement: &mut Statement) {
        let asked = |level| self.query.conditions.iter().any(|condition| condition.key.level() == level);
        let by_series = self.query.series.is_some() || asked(Level::Series);
        let (level, counted) = match self.query.level {
            Level::Instance if asked(Level::Instance) => (Level::Instance, None),
            Level::Instance if by_series => (Level::Series, Some("se.instance_count")),
            Level::Instance => (Level::Study, Some("st.instance_count")),
            Level::Series if by_series => (Level::Series, None),
            Level::Series => (Level::Study, Some("st.series_count")),
            Level::Study => (Level::Study, None),
        };
        match counted {
            None => statement.push("select count(*)"),
            Some(counter) => statement.push("select cast(coalesce(sum(").push(counter).push("), 0) as bigint)"),
        };
        let query = SearchQuery { level, ..self.query.clone() };
        Plan::new(&query, self.dialect).push_from(statement);
    }
}

impl<'a> Driver<'a> {
    fn of(query: &'a SearchQuery) -> Self {
        let has = |key: SearchKey| {
            key.level() <= query.level
                && query.conditions.iter().any(|condition| condition.key == key && is_selective(condition))
        };
        let studies = [SearchKey::StudyInstanceUid, SearchKey::PatientId, SearchKey::AccessionNumber];
        if has(SearchKey::SopInstanceUid) {
            Self::Instances
        } else if query.study.is_some() || studies.into_iter().any(has) {
            Self::Studies
        } else if has(SearchKey::SeriesInstanceUid) {
            Self::Series
        } else {
            query.conditions.iter().find_map(Self::of_name).unwrap_or(Self::Order)
        }
    }

    fn of_name(condition: &'a Condition) -> Option<Self> {
        let Condition { key: SearchKey::PatientName, test: Test::Name(key) } = condition else { return None };
        match name_groups(key) {
            NameGroups::Any(pattern) => is_selective_pattern(pattern).then_some(Self::Name(pattern)),
            // all must match, so the index of one will do
            NameGroups::Each(patterns) => {
                patterns.into_iter().flatten().any(is_selective_pattern).then_some(Self::Studies)
            }
        }
    }
}

fn is_selective(condition: &Condition) -> bool {
    match &condition.test {
        Test::Text(_) | Test::AnyOf(_) => true,
        Test::Wildcard(pattern) => is_selective_pattern(pattern),
        Test::Name(_) | Test::Integer(_) | Test::Dates(..) | Test::Times(..) | Test::Moments(..) => false,
    }
}

fn is_selective_pattern(pattern: &str) -> bool {
    !pattern.contains(['*', '?']) || prefix(pattern).chars().count() >= SELECTIVE_PREFIX
}

/// An expression by which answers are ordered.
pub(super) struct Term {
    pub(super) expression: &'static str,
    pub(super) descending: bool,
    /// It is a text, else an integer.
    pub(super) text: bool,
}

const fn text(expression: &'static str) -> Term {
    Term { expression, descending: false, text: true }
}

const fn number(expression: &'static str) -> Term {
    Term { expression, descending: false, text: false }
}

/// Newest first, without date last: the index `studies_order`.
const STUDIES: [Term; 3] = [
    Term { expression: STUDY_DATE, descending: true, text: true },
    Term { expression: STUDY_TIME, descending: true, text: false },
    text("st.study_uid"),
];
const SERIES: [Term; 2] = [number("coalesce(se.series_number, 9223372036854775807)"), text("se.series_uid")];
/// The index `instances_series`.
const INSTANCES: [Term; 2] = [number("coalesce(i.instance_number, 9223372036854775807)"), text("i.sop_instance_uid")];

/// The order of answers at this level: studies newest first, series and instances by number within them, missing numbers
/// last, everything then by UID. What the path names is not ordered by.
fn order(query: &SearchQuery) -> Vec<Term> {
    let in_study = query.level > Level::Study && query.study.is_some();
    let in_series = query.level > Level::Series && in_study && query.series.is_some();
    let mut terms = Vec::with_capacity(7);
    if !in_study {
        terms.extend(STUDIES);
    }
    if query.level >= Level::Series && !in_series {
        terms.extend(SERIES);
    }
    if query.level == Level::Instance {
        terms.extend(INSTANCES);
    }
    terms
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Executor as _, Row as _, SqliteConnection};

    use super::*;
    use crate::dicom::uid::{SeriesUid, StudyUid};

    fn query(level: Level, conditions: Vec<(SearchKey, Test)>) -> SearchQuery {
        let conditions = conditions.into_iter().map(|(key, test)| Condition { key, test }).collect();
        SearchQuery { conditions, ..SearchQuery::all(level) }
    }

    fn below(level: Level, series: bool) -> SearchQuery {
        SearchQuery {
            study: StudyUid::parse("1.2").ok(),
            series: SeriesUid::parse("1.3").ok().filter(|_| series),
            ..SearchQuery::all(level)
        }
    }

    fn text(text: &str) -> Test {
        Test::Text(text.into())
    }

    /// The steps of SQLite's plan over an empty index, which is all that it knows of a full one too.
    async fn steps(query: &SearchQuery) -> Vec<String> {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        connection.execute(include_str!("../../migrations/sqlite/0001_index.sql")).await.unwrap();
        let plan = Plan::new(query, Dialect::Sqlite);
        let mut statement = Statement::new("explain query plan select st.study_uid, st.attributes");
        plan.push_from(&mut statement);
        plan.push_order(&mut statement);
        statement.push(" limit 101");
        let rows = statement.sqlite().unwrap().fetch_all(&mut connection).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(3)).collect()
    }

    #[tokio::test]
    async fn sqlite_begins_with_the_index_that_leaves_the_least() {
        let name = |key: &str| vec![(SearchKey::PatientName, Test::Name(key.into()))];
        let dates = || (SearchKey::StudyDate, Test::Dates(Some("20200101".into()), Some("20201231".into())));
        let any = |uids: &[&str]| Test::AnyOf(uids.iter().map(|&uid| uid.into()).collect());
        for (query, first) in [
            (query(Level::Study, vec![]), "st USING INDEX studies_order (partition_id=?)"),
            (query(Level::Study, vec![dates()]), "st USING INDEX studies_order (partition_id=? AND <expr>>?"),
            (
                query(Level::Study, vec![dates(), (SearchKey::PatientId, text("P"))]),
                "st USING INDEX studies_patient_id (partition_id=? AND patient_id=?)",
            ),
            (
                query(Level::Series, vec![(SearchKey::PatientId, Test::Wildcard("P12*".into()))]),
                "st USING INDEX studies_patient_id (partition_id=? AND patient_id>? AND patient_id<?)",
            ),
            (
                query(Level::Instance, vec![(SearchKey::AccessionNumber, text("A"))]),
                "st USING INDEX studies_accession_number (partition_id=? AND accession_number=?)",
            ),
            (
                query(Level::Study, vec![(SearchKey::StudyInstanceUid, any(&["1", "2"]))]),
                "st USING INDEX sqlite_autoindex_studies_1 (partition_id=? AND study_uid=?)",
            ),
            (
                query(Level::Study, name("doe^=*=*")),
                "st USING INDEX studies_patient_name (partition_id=? AND patient_name=?)",
            ),
            (query(Level::Study, name("*doe*")), "st USING INDEX studies_order (partition_id=?)"),
            (
                query(Level::Series, vec![(SearchKey::Modality, text("CT"))]),
                "st USING INDEX studies_order (partition_id=?)",
            ),
            (
                query(Level::Instance, vec![(SearchKey::SeriesInstanceUid, any(&["1"]))]),
                "se USING INDEX series_uid (series_uid=?)",
            ),
            (
                query(Level::Instance, vec![(SearchKey::SopInstanceUid, any(&["1", "2"]))]),
                "i USING INDEX instances_visible_uid (partition_id=? AND sop_instance_uid=?)",
            ),
            (
                below(Level::Instance, true),
                "st USING INDEX sqlite_autoindex_studies_1 (partition_id=? AND study_uid=?)",
            ),
        ] {
            let steps = steps(&query).await;
            assert!(steps[0].contains(first), "{:?} {steps:?}", query.conditions);
        }
    }

    #[tokio::test]
    async fn a_name_is_found_in_any_component_group_by_index() {
        let steps = steps(&query(Level::Study, vec![(SearchKey::PatientName, Test::Name("doe^j*".into()))])).await;
        for index in ["studies_patient_name", "studies_patient_name_ideographic", "studies_patient_name_phonetic"] {
            let step = format!("INDEX {index} (partition_id=?");
            assert!(steps.iter().any(|found| found.contains(&step)), "{index}: {steps:?}");
        }
        assert!(!steps.iter().any(|step| step.contains("studies_order")), "{steps:?}");
    }

    #[tokio::test]
    async fn what_is_read_in_order_is_not_sorted() {
        for query in [query(Level::Study, vec![]), below(Level::Instance, true)] {
            let steps = steps(&query).await;
            assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:?}");
        }
    }

    #[test]
    fn counters_count_where_nothing_below_them_is_asked() {
        let counted = |query: &SearchQuery| {
            let mut statement = Statement::default();
            Plan::new(query, Dialect::Postgres).push_count(&mut statement);
            statement.text().split(" where ").next().unwrap_or_default().to_owned()
        };
        let sum = |what| format!("select cast(coalesce(sum({what}), 0) as bigint) from studies st");
        for (query, wanted) in [
            (query(Level::Study, vec![]), "select count(*) from studies st".to_owned()),
            (query(Level::Series, vec![(SearchKey::PatientSex, text("F"))]), sum("st.series_count")),
            (query(Level::Instance, vec![]), sum("st.instance_count")),
            (
                query(Level::Instance, vec![(SearchKey::Modality, text("CT"))]),
                sum("se.instance_count") + " join series se on se.study_id = st.id",
            ),
            (
                query(Level::Instance, vec![(SearchKey::InstanceNumber, Test::Integer(1))]),
                "select count(*) from studies st join series se on se.study_id = st.id join instances i on i.series_id = se.id"
                    .to_owned(),
            ),
        ] {
            assert_eq!(counted(&query), wanted);
        }
    }
}
