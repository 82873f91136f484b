CREATE TABLE payman_journal (
    key TEXT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    state TEXT NOT NULL,
    task_id TEXT NOT NULL,
    identity TEXT,
    due_at BIGINT,
    updated_at BIGINT NOT NULL,
    entry TEXT NOT NULL
);
CREATE INDEX payman_journal_due ON payman_journal (state, due_at) WHERE due_at IS NOT NULL;
