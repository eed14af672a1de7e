//! From the metadata and bulk data of a client to a Part 10 file
//! ([PS3.18 10.5.1](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.5.html), Annex F, PS3.19 A.1).
//!
//! ```text
//! json::instances ─ json::read ┐
//!                              ├ Dataset ─ compose → pieces of a file
//!                     xml::read ┘
//! ```
//! Pure: what bulk data there is, is told by [`Bulk`]; the pieces name it, and whoever has the bytes puts them there.

mod budget;
mod derived;
mod encapsulate;
mod error;
pub mod json;
mod lexer;
mod model;
mod private;
mod value;
mod write;
pub mod xml;

pub use budget::{Amount, Budget};
pub use error::{ComposeError, Excess, Fault};
pub use model::{Dataset, Element, Known, Limits, Value};
pub use write::{Bulk, Form, Part, Piece, compose};
