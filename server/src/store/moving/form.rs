//! A table as two databases have it: its columns, and the statements that read and write its rows.

use super::{
    MoveError,
    link::{Cell, Column, Kind, Link, Row},
    tables::{NOT_COPIED, Scope, Table},
};
use std::collections::BTreeMap;

/// Rows that are read at once; without what is heavy, each is a few hundred bytes.
const PAGE: usize = 1000;

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Target,
}

/// A table, with the columns that both databases have.
pub(super) struct Form {
    pub(super) table: Table,
    names: Vec<String>,
    source: Vec<Kind>,
    target: Vec<Kind>,
    key: Vec<usize>,
}

impl Form {
    /// Asks both databases what the table is. They must agree.
    pub(super) async fn of(table: Table, source: &mut Link, target: &mut Link) -> Result<Self, MoveError> {
        let travels = |column: &Column| (table.name, column.name.as_str()) != NOT_COPIED;
        let (mut here, mut there) = (
            source.columns(table.name).await?,
            target.columns(table.name).await?,
        );
        here.retain(travels);
        there.retain(travels);
        let name = |column: &Column| column.name.clone();
        let names: Vec<_> = here.iter().map(name).collect();
        if names.is_empty() || names != there.iter().map(name).collect::<Vec<_>>() {
            return Err(MoveError::Schema(table.name.to_owned()));
        }
        let at = |wanted: &&str| names.iter().position(|name| name == wanted);
        let key: Option<Vec<_>> = table.key.iter().map(at).collect();
        let key = key.ok_or_else(|| MoveError::Schema(table.name.to_owned()))?;
        let kind = |column: &Column| column.kind;
        Ok(Self {
            table,
            key,
            source: here.iter().map(kind).collect(),
            target: there.iter().map(kind).collect(),
            names,
        })
    }

    fn kinds(&self, side: Side) -> &[Kind] {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// A value of a row.
    pub(super) fn cell<'r>(&self, row: &'r Row, name: &str) -> &'r Cell {
        let found = self.at(name).and_then(|at| row.get(at));
        found.unwrap_or(&Cell::Null)
    }

    /// Puts another value into a row.
    pub(super) fn set(&self, row: &mut Row, name: &str, value: Cell) {
        if let Some(cell) = self.at(name).and_then(|at| row.get_mut(at)) {
            *cell = value;
        }
    }

    /// What tells a row apart within its scope.
    pub(super) fn key<'r>(&self, row: &'r Row) -> Vec<&'r Cell> {
        self.key.iter().filter_map(|at| row.get(*at)).collect()
    }

    /// The number by which other tables name the row, where it has one.
    pub(super) fn number<'r>(&self, row: &'r Row) -> Option<&'r Cell> {
        self.table.number.map(|name| self.cell(row, name))
    }

    fn kind_of(&self, side: Side, name: &str) -> Kind {
        let kind = self.at(name).and_then(|at| self.kinds(side).get(at));
        kind.copied().unwrap_or(Kind::Int)
    }

    /// Bytes of what is heavy in a row.
    pub(super) fn weight(&self, row: &Row) -> u64 {
        let heavy = self.table.heavy.map(|heavy| self.cell(row, heavy.column));
        heavy.map_or(0, |cell| u64::try_from(cell.int()).unwrap_or_default())
    }

    /// A column as rows are ordered by it: PostgreSQL orders text as its locale does, unless it is told otherwise.
    fn ordered(&self, link: &Link, name: &str) -> String {
        if link.is_postgres() && self.kind_of(Side::Source, name) == Kind::Text {
            format!("\"{name}\" COLLATE \"C\"")
        } else {
            format!("\"{name}\"")
        }
    }

    fn scope(&self, scope: Option<i64>) -> (String, Vec<(Kind, Cell)>) {
        match (self.table.scope.column(), scope) {
            (Some(column), Some(of)) => (format!("\"{column}\" = $1"), vec![(Kind::Int, Cell::Int(of))]),
            _ => ("true".to_owned(), Vec::new()),
        }
    }

    /// The rows of a scope that come after another, in the order of their keys. Instead of what is heavy they have its length.
    async fn page(
        &self,
        link: &mut Link,
        side: Side,
        scope: Option<i64>,
        after: Option<&Row>,
    ) -> Result<Vec<Row>, MoveError> {
        let heavy = self.table.heavy.map(|heavy| heavy.column);
        let mut kinds = self.kinds(side).to_vec();
        let mut columns = Vec::new();
        for (name, kind) in self.names.iter().zip(&mut kinds) {
            if heavy == Some(name) {
                *kind = Kind::Int;
                columns.push(format!("CAST(length(\"{name}\") AS bigint)"));
            } else {
                columns.push(format!("\"{name}\""));
            }
        }
        let (mut condition, mut values) = self.scope(scope);
        let order: Vec<_> = self
            .table
            .key
            .iter()
            .map(|name| self.ordered(link, name))
            .collect();
        let order = order.join(", ");
        if let Some(after) = after {
            let mut places = Vec::new();
            for (name, cell) in self.table.key.iter().zip(self.key(after)) {
                values.push((self.kind_of(side, name), cell.clone()));
                places.push(format!("${}", values.len()));
            }
            condition = format!("{condition} AND ({order}) > ({})", places.join(", "));
        }
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition} ORDER BY {order} LIMIT {PAGE}",
            columns.join(", "),
            self.table.name
        );
        link.rows(&sql, &values, &kinds).await
    }

    /// The whole row of an account.
    pub(super) async fn one(
        &self,
        link: &mut Link,
        side: Side,
        account: i64,
    ) -> Result<Option<Row>, MoveError> {
        let columns: Vec<_> = self.names.iter().map(|name| format!("\"{name}\"")).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE account = $1",
            columns.join(", "),
            self.table.name
        );
        let own = [(Kind::Int, Cell::Int(account))];
        Ok(link.rows(&sql, &own, self.kinds(side)).await?.pop())
    }

    /// What is heavy of rows of a scope, by the value that names each.
    pub(super) async fn heavy(
        &self,
        link: &mut Link,
        side: Side,
        scope: Option<i64>,
        rows: &[Row],
    ) -> Result<BTreeMap<Cell, Vec<u8>>, MoveError> {
        let Some(heavy) = self.table.heavy.filter(|_| !rows.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let (condition, mut values) = self.scope(scope);
        let kind = self.kind_of(side, heavy.by);
        let mut places = Vec::new();
        for row in rows {
            values.push((kind, self.cell(row, heavy.by).clone()));
            places.push(format!("${}", values.len()));
        }
        let sql = format!(
            "SELECT \"{}\", \"{}\" FROM {} WHERE {condition} AND \"{}\" IN ({})",
            heavy.by,
            heavy.column,
            self.table.name,
            heavy.by,
            places.join(", ")
        );
        let found = link.rows(&sql, &values, &[kind, Kind::Bytes]).await?;
        let pair = |row: Row| match <[Cell; 2]>::try_from(row) {
            Ok([by, Cell::Bytes(bytes)]) => Some((by, bytes)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(pair).collect())
    }

    /// Enters whole rows into the target, or changes those that are there.
    pub(super) async fn put(&self, target: &mut Link, rows: &[Row]) -> Result<(), MoveError> {
        if rows.is_empty() {
            return Ok(());
        }
        let (mut values, mut lines) = (Vec::new(), Vec::new());
        for row in rows {
            let mut places = Vec::new();
            for (kind, cell) in self.target.iter().zip(row) {
                values.push((*kind, cell.clone()));
                places.push(format!("${}", values.len()));
            }
            lines.push(format!("({})", places.join(", ")));
        }
        let quoted = |name: &str| format!("\"{name}\"");
        let columns: Vec<_> = self.names.iter().map(|name| quoted(name)).collect();
        let unique: Vec<_> = self.table.unique.iter().map(|name| quoted(name)).collect();
        let changed = self.names.iter().map(String::as_str).filter(|name| {
            !self.table.unique.contains(name)
                && !self.table.key.contains(name)
                && self.table.number != Some(name)
        });
        let changed: Vec<_> = changed
            .map(|name| format!("\"{name}\" = excluded.\"{name}\""))
            .collect();
        let conflict = if changed.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!("UPDATE SET {}", changed.join(", "))
        };
        let sql = format!(
            "INSERT INTO {} ({}) {}VALUES {} ON CONFLICT ({}) DO {conflict}",
            self.table.name,
            columns.join(", "),
            target.overriding(),
            lines.join(", "),
            unique.join(", ")
        );
        target.run(&sql, &values).await?;
        Ok(())
    }

    /// Removes a row of the target, with what rests on it.
    pub(super) async fn remove(
        &self,
        target: &mut Link,
        scope: Option<i64>,
        row: &Row,
    ) -> Result<(), MoveError> {
        if let Some(number) = self.number(row) {
            for sql in self.table.removes {
                target.run(sql, &[(Kind::Int, number.clone())]).await?;
            }
            return Ok(());
        }
        let (mut condition, mut values) = self.scope(scope);
        for (name, cell) in self.table.key.iter().zip(self.key(row)) {
            values.push((self.kind_of(Side::Target, name), cell.clone()));
            condition = format!("{condition} AND \"{name}\" = ${}", values.len());
        }
        let sql = format!("DELETE FROM {} WHERE {condition}", self.table.name);
        target.run(&sql, &values).await?;
        Ok(())
    }
}

/// How a row of one database stands to the other's.
pub(super) enum Difference {
    /// The target does not have it.
    Missing(Row),
    /// The source does not have it.
    Extra(Row),
    /// They differ: the source's, the target's.
    Changed(Row, Row),
    /// They are equal, but for what is heavy.
    Same(Row),
}

/// One database's rows of a scope, page by page.
struct Cursor {
    side: Side,
    rows: std::collections::VecDeque<Row>,
    last: Option<Row>,
    done: bool,
}

impl Cursor {
    fn new(side: Side) -> Self {
        let (rows, last, done) = Default::default();
        Self {
            side,
            rows,
            last,
            done,
        }
    }

    async fn load(&mut self, form: &Form, link: &mut Link, scope: Option<i64>) -> Result<(), MoveError> {
        if !self.rows.is_empty() || self.done {
            return Ok(());
        }
        let page = form.page(link, self.side, scope, self.last.as_ref()).await?;
        self.done = page.len() < PAGE;
        self.last = page.last().cloned();
        self.rows = page.into();
        Ok(())
    }
}

/// Walks through the rows of a scope in both databases at once.
pub(super) struct Merge {
    scope: Option<i64>,
    source: Cursor,
    target: Cursor,
}

impl Merge {
    pub(super) fn new(table: &Table, of: i64) -> Self {
        Self {
            scope: (table.scope != Scope::Whole).then_some(of),
            source: Cursor::new(Side::Source),
            target: Cursor::new(Side::Target),
        }
    }

    pub(super) async fn next(
        &mut self,
        form: &Form,
        source: &mut Link,
        target: &mut Link,
    ) -> Result<Option<Difference>, MoveError> {
        self.source.load(form, source, self.scope).await?;
        self.target.load(form, target, self.scope).await?;
        let order = match (self.source.rows.front(), self.target.rows.front()) {
            (None, None) => return Ok(None),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(here), Some(there)) => form.key(here).cmp(&form.key(there)),
        };
        let here = order.is_le().then(|| self.source.rows.pop_front()).flatten();
        let there = order.is_ge().then(|| self.target.rows.pop_front()).flatten();
        Ok(match (here, there) {
            (Some(here), Some(there)) if here == there => Some(Difference::Same(here)),
            (Some(here), Some(there)) => Some(Difference::Changed(here, there)),
            (Some(here), None) => Some(Difference::Missing(here)),
            (None, Some(there)) => Some(Difference::Extra(there)),
            (None, None) => None,
        })
    }
}
