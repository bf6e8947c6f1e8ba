//! Each attack of a cluster on its sessions, by people who may do much in a namespace, and that the plain work goes on.

mod account;
mod claims;
mod doors;
mod fields;
mod identity;
mod operator;
mod pods;
