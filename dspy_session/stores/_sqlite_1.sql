CREATE TABLE head (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL,
    data TEXT NOT NULL
);
CREATE TABLE conversation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    version INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    family INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    total INTEGER NOT NULL,
    first INTEGER NOT NULL,
    open INTEGER NOT NULL,
    bound INTEGER NOT NULL,
    head INTEGER NOT NULL,
    source INTEGER,
    title TEXT NOT NULL,
    tags TEXT NOT NULL,
    cost REAL NOT NULL,
    metadata TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    UNIQUE (scope, key)
);
CREATE INDEX conversation_hour ON conversation (scope, hour);
CREATE INDEX conversation_family ON conversation (family);
CREATE INDEX conversation_source ON conversation (source) WHERE source IS NOT NULL;
CREATE TABLE segment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    family INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    parent INTEGER,
    start INTEGER NOT NULL,
    bound INTEGER NOT NULL
);
CREATE INDEX segment_family ON segment (family);
CREATE TABLE turn (
    family INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest BLOB NOT NULL,
    data TEXT NOT NULL
);
CREATE UNIQUE INDEX turn_place ON turn (segment, idx);
CREATE INDEX turn_id ON turn (family, id);
CREATE TABLE note (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    segment INTEGER NOT NULL,
    about INTEGER NOT NULL,
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX note_about ON note (segment, about, name, at, version);
CREATE TABLE lease (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    token INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
);
