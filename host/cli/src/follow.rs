//! Watching a session: the stream goes to the view, what waits for a person goes to the person.

use crate::{
    ask::{self, Lines},
    client::{Client, Item},
    exit::{Code, Failure, Outcome},
    output::Output,
    view::View,
};
use model::{
    approval::Decision,
    event::{Event, RunFinished, Stored},
    id::{AskId, Seq, SessionName},
    lifecycle::{Phase, Reason},
};
use protocol::control::Ask;
use std::{collections::VecDeque, io::Stdout, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Until what the server did not hear is said again.
const AGAIN: Duration = Duration::from_secs(1);

/// Who is asked.
#[derive(Debug)]
pub(crate) enum Answers {
    Person(Lines),
    /// The person said yes to everything beforehand.
    Yes,
    /// Somebody else, by another way.
    Elsewhere,
}

/// When to stop watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The session settles.
    Settled,
    /// The person leaves.
    Left,
    /// The one or the other; nothing is interrupted.
    SettledOrLeft,
}

/// How it stood at the end.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) run: Option<RunFinished>,
    pub(crate) phase: Option<(Phase, Reason)>,
}

/// Whether the answer to what was typed is still to come.
enum Prompt {
    None,
    Approval(AskId),
    Question(Vec<String>),
}

pub(crate) struct Follow<'a> {
    client: &'a Client,
    name: &'a SessionName,
    output: Output,
    view: View<Stdout>,
    answers: Answers,
    /// What is typed with nothing asked goes to the agent.
    messages: bool,
    waiting: VecDeque<Ask>,
    prompt: Prompt,
    end: End,
    last: Seq,
}

impl<'a> Follow<'a> {
    pub(crate) fn new(client: &'a Client, name: &'a SessionName, output: Output, answers: Answers) -> Self {
        Self {
            client,
            name,
            output,
            view: View::new(std::io::stdout(), output.style),
            answers,
            messages: false,
            waiting: VecDeque::new(),
            prompt: Prompt::None,
            end: End::default(),
            last: Seq(0),
        }
    }

    pub(crate) fn with_messages(mut self) -> Self {
        self.messages = true;
        self
    }

    /// Shows what has happened up to now.
    pub(crate) async fn history(&mut self) -> Outcome {
        for stored in self.client.events(self.name).await? {
            self.stored(&stored)?;
        }
        Ok(())
    }

    /// Whether what was shown ends with a session at rest.
    pub(crate) fn is_settled(&self) -> bool {
        self.end.phase.as_ref().is_some_and(|(phase, _)| phase.is_settled())
    }

    /// Shows what happens, and asks, until the end that was wished for.
    pub(crate) async fn watch(&mut self, until: Until) -> Outcome<End> {
        let mut stream = self.client.stream(self.name, self.last);
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut interrupted = false;
        loop {
            self.ask().await?;
            tokio::select! {
                item = stream.next() => {
                    // What is told of a failure begins on a line of its own.
                    let item = match item {
                        Ok(item) => item,
                        Err(failure) => return self.view.close().map_err(Failure::from).and(Err(failure)),
                    };
                    if self.item(&item)? && until != Until::Left {
                        self.view.close()?;
                        return Ok(std::mem::take(&mut self.end));
                    }
                }
                line = typed(&mut self.answers) => {
                    self.view.answered();
                    self.line(line).await?;
                }
                // The server did not hear it.
                () = tokio::time::sleep(AGAIN), if self.owes_an_answer() => {}
                () = pressed(&mut interrupts) => {
                    if until != Until::Settled || interrupted {
                        return self.left(until);
                    }
                    interrupted = true;
                    self.view.note("interrupting the run; press Ctrl-C again to leave it alone")?;
                    self.client.interrupt(self.name).await?;
                }
            }
        }
    }

    /// Nobody else gives it, and nothing else may happen before.
    fn owes_an_answer(&self) -> bool {
        matches!((&self.answers, self.waiting.front()), (Answers::Yes, Some(Ask::Approval(_))))
    }

    /// A line for the person; nothing in JSON.
    pub(crate) fn note(&mut self, text: &str) -> Outcome {
        if self.output.json { Ok(()) } else { Ok(self.view.note(text)?) }
    }

    pub(crate) fn into_answers(self) -> Answers {
        self.answers
    }

    fn left(&mut self, until: Until) -> Outcome<End> {
        self.view.close()?;
        if until != Until::Settled {
            return Ok(std::mem::take(&mut self.end));
        }
        Err(Failure::new(
            Code::Interrupted,
            format!("left; see: vteam sessions attach {}{}", self.name, self.client.flags()),
        ))
    }

    /// Whether the session settled.
    fn item(&mut self, item: &Item) -> Outcome<bool> {
        match item {
            Item::Stored(stored) => {
                self.stored(stored)?;
                Ok(matches!(&stored.event, Event::PhaseChanged(changed) if changed.phase.is_settled()))
            }
            Item::Live(live) if !self.output.json => Ok(self.view.live(live).map(|()| false)?),
            Item::Live(_) => Ok(false),
            Item::Cut => {
                self.view.cut();
                Ok(false)
            }
            Item::Away => {
                let away = self.client.away();
                self.note(&format!("the server is gone; this goes on when it is back{away}"))?;
                Ok(false)
            }
        }
    }

    fn stored(&mut self, stored: &Stored) -> Outcome {
        self.last = stored.seq;
        self.note_asks(&stored.event);
        match &stored.event {
            Event::RunFinished(finished) => self.end.run = Some(finished.clone()),
            Event::PhaseChanged(changed) => self.end.phase = Some((changed.phase, changed.reason.clone())),
            _ => {}
        }
        if self.output.json { self.output.json_line(stored) } else { Ok(self.view.stored(stored)?) }
    }

    fn note_asks(&mut self, event: &Event) {
        match event {
            Event::ApprovalRequested(request) => {
                self.waiting.push_back(Ask::Approval(Box::new(request.clone())))
            }
            Event::QuestionAsked(question) => self.waiting.push_back(Ask::Question(question.clone())),
            Event::ApprovalDecided(decided) => self.settle(&decided.id),
            Event::QuestionAnswered(answered) => self.settle(&answered.id),
            Event::RunFinished(_) => {
                self.waiting.clear();
                self.prompt = Prompt::None;
            }
            _ => {}
        }
    }

    fn settle(&mut self, id: &AskId) {
        if self.waiting.front().is_some_and(|ask| ask.id() == id) {
            self.prompt = Prompt::None;
        }
        self.waiting.retain(|ask| ask.id() != id);
    }

    /// Puts the first thing that waits to whoever decides: once, and to a person again when something came between.
    async fn ask(&mut self) -> Outcome {
        let Some(ask) = self.waiting.front().cloned() else { return Ok(()) };
        let person = matches!(self.answers, Answers::Person(_));
        if !matches!(self.prompt, Prompt::None) && (!person || self.view.is_prompted()) {
            return Ok(());
        }
        match (&self.answers, &ask) {
            (Answers::Yes, Ask::Approval(request)) => {
                let told = self.decide(&request.id, &ask::YES).await;
                self.told(told)
            }
            (Answers::Person(_), Ask::Approval(request)) => {
                self.prompt = Prompt::Approval(request.id.clone());
                self.say(&ask::approval_prompt(self.output.style))
            }
            (Answers::Person(_), Ask::Question(question)) => {
                let given = match std::mem::replace(&mut self.prompt, Prompt::None) {
                    Prompt::Question(given) => given,
                    Prompt::None | Prompt::Approval(_) => Vec::new(),
                };
                let text = ask::question_prompt(question, given.len());
                self.prompt = Prompt::Question(given);
                self.say(&text)
            }
            _ => {
                self.prompt = Prompt::Question(Vec::new());
                self.elsewhere(&ask)
            }
        }
    }

    fn elsewhere(&mut self, ask: &Ask) -> Outcome {
        let (name, id, flags) = (self.name, ask.id(), self.client.flags());
        let how = match ask {
            Ask::Approval(_) => format!("waiting; allow it with: vteam sessions approve {name} {id}{flags}"),
            Ask::Question(_) => {
                format!("waiting; answer it with: vteam sessions answer {name} {id} TEXT{flags}")
            }
        };
        self.note(&how)
    }

    async fn line(&mut self, line: Option<String>) -> Outcome {
        let Some(line) = line else {
            self.answers = Answers::Elsewhere;
            return Ok(());
        };
        let prompt = std::mem::replace(&mut self.prompt, Prompt::None);
        match (prompt, self.waiting.front().cloned()) {
            (Prompt::Approval(id), _) => match ask::read_decision(&line) {
                Some(decision) => {
                    let told = self.decide(&id, &decision).await;
                    self.told(told)
                }
                None => Ok(()),
            },
            (Prompt::Question(mut given), Some(Ask::Question(question))) => {
                given.push(line);
                if given.len() < crate::view::subject::questions(&question).len() {
                    self.prompt = Prompt::Question(given);
                    return Ok(());
                }
                let answer = ask::answer(&question, &given);
                let told = already(self.client.answer(self.name, &question.id, &answer).await);
                self.told(told)
            }
            _ if self.messages && !line.trim().is_empty() => {
                let sent = self.client.message(self.name, &line).await.map(drop);
                self.kept(sent).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// What waits was answered, unless the server did not hear it: then it is asked again.
    fn told(&mut self, told: Outcome) -> Outcome {
        if self.kept(told)? {
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Whether the server heard it. One that is away is no reason to leave.
    fn kept(&mut self, told: Outcome) -> Outcome<bool> {
        match told {
            Err(failure) if failure.code == Code::Unreachable => {
                self.note(&failure.to_string())?;
                Ok(false)
            }
            told => told.map(|()| true),
        }
    }

    async fn decide(&self, id: &AskId, decision: &Decision) -> Outcome {
        already(self.client.decide(self.name, id, decision).await)
    }

    /// A prompt goes to stderr: stdout may be a pipe.
    #[expect(clippy::print_stderr, reason = "a prompt for the person at the terminal")]
    fn say(&mut self, text: &str) -> Outcome {
        self.view.prompt()?;
        eprint!("{text}");
        Ok(())
    }
}

/// Somebody else was faster: that is no failure of ours.
fn already(result: Outcome) -> Outcome {
    match result {
        Err(failure) if failure.code == Code::Conflict => Ok(()),
        result => result,
    }
}

async fn typed(answers: &mut Answers) -> Option<String> {
    match answers {
        Answers::Person(lines) => lines.next().await,
        Answers::Yes | Answers::Elsewhere => std::future::pending().await,
    }
}

async fn pressed(interrupts: &mut Signal) {
    if interrupts.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}
