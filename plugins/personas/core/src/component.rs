//! The component's exports.
#![expect(unsafe_code, reason = "generated calls across the component boundary")]

use crate::{Leaf, fill, rule, slot, stamp::Stamp};
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use exports::vteam::plugin::persona::{self, Guest, Verdict};

wit_bindgen::generate!({ path: "../../../wit/plugin-0.1", world: "persona-plugin" });

struct Component;

impl Guest for Component {
    fn describe() -> String {
        stamped().describe.to_owned()
    }

    fn system_prompt(_: String, _: Vec<(String, String)>) -> String {
        stamped().system_prompt.to_owned()
    }

    fn analysis_prompt(task: String, ctx: Vec<(String, String)>) -> String {
        let context = ctx.iter().find(|(key, _)| key == "context").map(|(_, json)| crate::leaf::text(json));
        fill(stamped().analysis_prompt, &task, context.as_deref().unwrap_or("(none given)"))
    }

    fn answer_schema() -> String {
        stamped().answer_schema.to_owned()
    }

    fn judge(answer: Vec<persona::Leaf>, _: Vec<(String, String)>) -> Verdict {
        let leaves: Vec<Leaf<'_>> =
            answer.iter().map(|l| Leaf { pointer: &l.pointer, json: &l.value }).collect();
        let reasons = rule::judge(&stamped().rules, &leaves);
        if reasons.is_empty() { Verdict::Accept } else { Verdict::Revise(reasons) }
    }
}

fn stamped() -> Stamp<'static> {
    Stamp::unpack(slot::bytes()).unwrap_or_default()
}

export!(Component);
