//! The command line: its words, its files, what it says and what it leaves.

mod aria2;
mod bench;
mod demo;
mod exec;
mod fault_table;
mod first_minutes;
mod flags;
mod habits;
mod hub;
mod input_files;
mod limits;
mod main_job;
mod many;
mod names;
mod play;
mod play_films;
mod screen;
mod settings;
mod surroundings;
