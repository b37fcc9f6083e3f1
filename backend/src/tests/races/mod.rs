//! Calls that come together and go by what the other one changes: whichever is first, what is left is as if
//! one had come after the other. (On SQLite they do.) See `store::lock` for what sees to it.

mod groups;
mod hosts;
mod launches;
mod tags;
