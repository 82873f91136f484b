CREATE TABLE payman_journal (
    key TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    state TEXT NOT NULL,
    task_id TEXT NOT NULL,
    identity TEXT,
    due_at INTEGER,
    updated_at INTEGER NOT NULL,
    entry TEXT NOT NULL
);
CREATE INDEX payman_journal_due ON payman_journal (state, due_at) WHERE due_at IS NOT NULL;
