CREATE TABLE {schema}.head (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL,
    data text NOT NULL
);
CREATE TABLE {schema}.conversation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope bytea NOT NULL,
    key bytea NOT NULL,
    incarnation text NOT NULL,
    version bigint NOT NULL,
    receipt bytea NOT NULL,
    family bigint NOT NULL,
    segment bigint NOT NULL,
    total bigint NOT NULL,
    first bigint NOT NULL,
    open bigint NOT NULL,
    bound bigint NOT NULL,
    head bigint NOT NULL,
    source bigint,
    title text NOT NULL,
    tags text NOT NULL,
    cost double precision NOT NULL,
    metadata text NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    hour bigint NOT NULL,
    UNIQUE (scope, key)
);
CREATE INDEX conversation_hour ON {schema}.conversation (scope, hour);
CREATE INDEX conversation_family ON {schema}.conversation (family);
CREATE INDEX conversation_source ON {schema}.conversation (source) WHERE source IS NOT NULL;
CREATE TABLE {schema}.segment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    family bigint NOT NULL,
    owner bigint NOT NULL,
    parent bigint,
    start bigint NOT NULL,
    bound bigint NOT NULL
);
CREATE INDEX segment_family ON {schema}.segment (family);
CREATE TABLE {schema}.turn (
    family bigint NOT NULL,
    segment bigint NOT NULL,
    idx bigint NOT NULL,
    id bytea NOT NULL,
    version bigint NOT NULL,
    digest bytea NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (segment, idx)
);
CREATE INDEX turn_id ON {schema}.turn (family, id);
CREATE TABLE {schema}.note (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    segment bigint NOT NULL,
    about bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    version bigint NOT NULL,
    data text NOT NULL
);
CREATE INDEX note_about ON {schema}.note (segment, about, name, at, version);
CREATE TABLE {schema}.lease (
    scope bytea NOT NULL,
    key bytea NOT NULL,
    token bigint NOT NULL,
    expires bigint NOT NULL,
    PRIMARY KEY (scope, key)
);

-- Microseconds since 1970, by the server's clock.
CREATE FUNCTION {schema}.now_micros() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

-- The spans of a line, newest first, down to the one which begins at p_lowest or before.
CREATE FUNCTION {schema}.line(p_segment bigint, p_total bigint, p_bound bigint, p_lowest bigint)
RETURNS TABLE (depth bigint, segment bigint, owner bigint, start bigint, stop bigint, bound bigint)
LANGUAGE sql STABLE ROWS 4 AS $$
    WITH RECURSIVE spans AS (
        SELECT 0::bigint AS depth, s.id, s.owner, s.parent, s.start, p_total AS stop, p_bound AS bound,
            s.bound AS parent_bound
        FROM {schema}.segment s WHERE s.id = p_segment
        UNION ALL
        SELECT l.depth + 1, s.id, s.owner, s.parent, s.start, least(l.stop, l.start), l.parent_bound, s.bound
        FROM spans l JOIN {schema}.segment s ON s.id = l.parent WHERE l.start > p_lowest)
    SELECT l.depth, l.id, l.owner, l.start, l.stop, l.bound FROM spans l ORDER BY l.depth
$$;

-- A turn of the line of a conversation, by its id; its version as the conversation counts.
CREATE FUNCTION {schema}.find(c {schema}.conversation, p_id bytea)
RETURNS TABLE (idx bigint, version bigint, digest bytea) LANGUAGE plpgsql STABLE AS $$
DECLARE
    lowest bigint;
BEGIN
    SELECT min(t.idx) INTO lowest FROM {schema}.turn t WHERE t.family = c.family AND t.id = p_id;
    IF lowest IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT t.idx, CASE WHEN l.owner = c.id THEN t.version ELSE 1 END, t.digest
        FROM {schema}.turn t JOIN {schema}.line(c.segment, c.total, 0, lowest) l ON l.segment = t.segment
        WHERE t.family = c.family AND t.id = p_id AND t.idx >= c.first AND t.idx < l.stop LIMIT 1;
END $$;

-- Index of the first and version of the last turn of a commit, if it stands on the line.
CREATE FUNCTION {schema}.standing(c {schema}.conversation, ids bytea[], digests bytea[])
RETURNS TABLE (start bigint, version bigint) LANGUAGE plpgsql STABLE AS $$
DECLARE
    place integer;
    found_turn record;
BEGIN
    FOR place IN 1 .. cardinality(ids) LOOP
        SELECT * INTO found_turn FROM {schema}.find(c, ids[place]);
        IF NOT FOUND OR found_turn.digest <> digests[place]
            OR (place > 1 AND found_turn.idx <> start + place - 1) THEN
            RETURN;
        END IF;
        start := found_turn.idx - place + 1;
        version := found_turn.version;
    END LOOP;
    IF cardinality(ids) > 0 THEN
        RETURN NEXT;
    END IF;
END $$;

-- The annotations without a turn that count at a position of the line of a conversation, oldest first.
CREATE FUNCTION {schema}.standing_notes(c {schema}.conversation, p_at bigint)
RETURNS TABLE (id bigint, name text, data text) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE place AS (
        SELECT * FROM {schema}.line(
            c.segment, c.total, CASE WHEN c.open = 1 THEN 4611686018427387904 ELSE c.bound END, p_at)
        ORDER BY depth DESC LIMIT 1),
    names(name) AS (
        SELECT (SELECT min(n.name) FROM {schema}.note n, place WHERE n.segment = place.segment AND n.about = -1)
        UNION ALL
        SELECT (SELECT min(n.name) FROM {schema}.note n, place
            WHERE n.segment = place.segment AND n.about = -1 AND n.name > names.name)
        FROM names WHERE names.name IS NOT NULL)
    SELECT m.id, m.name, m.data FROM names JOIN {schema}.note m ON m.id = (
        SELECT n.id FROM {schema}.note n, place
        WHERE n.segment = place.segment AND n.about = -1 AND n.name = names.name
            AND n.at <= p_at AND n.version <= place.bound
        ORDER BY n.at DESC, n.version DESC, n.id DESC LIMIT 1)
    ORDER BY m.id
$$;

-- What there is to read of a conversation, at one instant: nothing if it does not exist, else its fields as rows of
-- their own, then annotations and turns from p_limit before p_before on, and unless p_turns_only the other annotations.
CREATE FUNCTION {schema}.load(p_scope bytea, p_key bytea, p_before bigint, p_limit bigint, p_turns_only boolean)
RETURNS TABLE (kind text, place bigint, turn bytea, label text, body text) LANGUAGE plpgsql STABLE AS $$
DECLARE
    c {schema}.conversation;
    v_stop bigint;
    v_start bigint;
    v_bound bigint;
BEGIN
    SELECT * INTO c FROM {schema}.conversation v WHERE v.scope = p_scope AND v.key = p_key;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_stop := least(coalesce(p_before, c.total), c.total);
    v_start := greatest(c.first, v_stop - coalesce(p_limit, v_stop));
    v_bound := CASE WHEN c.open = 1 THEN 4611686018427387904 ELSE c.bound END;
    RETURN QUERY VALUES
        ('revision', c.total, NULL::bytea, NULL::text, c.incarnation || '.' || c.version),
        ('metadata', c.first, NULL, NULL, c.metadata),
        ('title', NULL, NULL, NULL, c.title),
        ('tags', NULL, NULL, NULL, c.tags),
        ('cost', NULL, NULL, NULL, c.cost::text);
    RETURN QUERY
        SELECT 'about', n.about, NULL::bytea, n.name, n.data
        FROM {schema}.line(c.segment, c.total, v_bound, v_start) l JOIN {schema}.note n ON n.segment = l.segment
            AND n.about >= v_start AND n.about < least(l.stop, v_stop) AND n.version <= l.bound
        ORDER BY l.depth DESC, n.id;
    RETURN QUERY
        SELECT 'turn', t.idx, t.id, NULL::text, t.data
        FROM {schema}.line(c.segment, c.total, v_bound, v_start) l JOIN {schema}.turn t ON t.segment = l.segment
            AND t.idx >= greatest(l.start, v_start) AND t.idx < least(l.stop, v_stop)
        ORDER BY t.idx;
    IF NOT p_turns_only THEN
        RETURN QUERY SELECT 'head', NULL::bigint, NULL::bytea, NULL::text, h.data
            FROM {schema}.head h WHERE h.id = c.head;
        RETURN QUERY SELECT 'note', NULL::bigint, NULL::bytea, s.name, s.data
            FROM {schema}.standing_notes(c, c.total) s ORDER BY s.id;
    END IF;
END $$;

-- One commit. The outcome is 'ok' with the revision, or the name of a refusal with what it is about.
CREATE FUNCTION {schema}.append(
    p_scope bytea, p_key bytea, p_expected text, p_receipt bytea, p_empty boolean, p_keep bigint, p_fence bigint,
    p_title text, p_tags text, p_cost double precision, ids bytea[], digests bytea[], texts text[],
    note_names text[], note_turns bytea[], note_texts text[],
    OUT outcome text, OUT detail text, OUT turn bytea)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    c {schema}.conversation;
    stood record;
    found_turn record;
    abouts bigint[] := '{}';
    v_about bigint;
    place integer;
    v_at bigint;
    segment_bound bigint;
    opened bigint;
    v_now bigint := {schema}.now_micros();
BEGIN
    SELECT * INTO c FROM {schema}.conversation WHERE scope = p_scope AND key = p_key FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'missing';
        RETURN;
    END IF;
    detail := c.incarnation || '.' || c.version;
    IF p_expected <> detail THEN
        IF c.receipt = p_receipt THEN
            outcome := 'ok';
            RETURN;
        END IF;
        SELECT * INTO stood FROM {schema}.standing(c, ids, digests);
        IF FOUND AND coalesce(p_keep, stood.start) = stood.start THEN
            outcome := 'ok';
            detail := c.incarnation || '.' || stood.version;
            RETURN;
        END IF;
    END IF;
    IF p_fence IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {schema}.lease
        WHERE scope = p_scope AND key = p_key AND token = p_fence AND expires > 0) THEN
        outcome := 'fence';
        RETURN;
    END IF;
    IF p_expected <> detail THEN
        outcome := 'stale';
        RETURN;
    END IF;
    outcome := 'ok';
    IF p_empty THEN
        RETURN;
    END IF;
    v_at := coalesce(p_keep, c.total);
    IF v_at < c.first OR v_at > c.total THEN
        outcome := 'position';
        detail := c.first || ' ' || c.total;
        RETURN;
    END IF;
    FOR place IN 1 .. cardinality(ids) LOOP
        SELECT * INTO found_turn FROM {schema}.find(c, ids[place]);
        IF FOUND AND found_turn.idx < v_at THEN
            IF p_keep IS NULL AND EXISTS (SELECT 1 FROM {schema}.standing(c, ids, digests)) THEN
                RETURN;
            END IF;
            outcome := 'duplicate';
            turn := ids[place];
            RETURN;
        END IF;
    END LOOP;
    FOR place IN 1 .. cardinality(note_names) LOOP
        v_about := -1;
        IF note_turns[place] IS NOT NULL THEN
            v_about := v_at + array_position(ids, note_turns[place]) - 1;
            IF v_about IS NULL THEN
                SELECT f.idx INTO v_about FROM {schema}.find(c, note_turns[place]) f WHERE f.idx < v_at;
                IF NOT FOUND THEN
                    outcome := 'turn';
                    turn := note_turns[place];
                    RETURN;
                END IF;
            END IF;
        END IF;
        abouts := abouts || v_about;
    END LOOP;

    c.receipt := p_receipt;
    segment_bound := CASE WHEN c.open = 1 THEN c.version ELSE c.bound END;
    IF c.open = 0 OR v_at <> c.total THEN
        IF cardinality(ids) = 0 AND cardinality(note_names) = 0 THEN
            c.open := 0;
            c.bound := segment_bound;
        ELSE
            INSERT INTO {schema}.segment (family, owner, parent, start, bound)
                VALUES (c.family, c.id, c.segment, v_at, segment_bound) RETURNING id INTO opened;
            INSERT INTO {schema}.note (segment, about, name, at, version, data)
                SELECT opened, -1, s.name, v_at, c.version + 1, s.data
                FROM {schema}.standing_notes(c, v_at) s ORDER BY s.id;
            c.segment := opened;
            c.open := 1;
            c.bound := 0;
        END IF;
    END IF;
    c.version := c.version + 1;
    c.total := v_at + cardinality(ids);
    INSERT INTO {schema}.turn (family, segment, idx, id, version, digest, data)
        SELECT c.family, c.segment, v_at + t.place - 1, t.id, c.version, t.digest, t.data
        FROM unnest(ids, digests, texts) WITH ORDINALITY AS t (id, digest, data, place);
    INSERT INTO {schema}.note (segment, about, name, at, version, data)
        SELECT c.segment, n.about, n.name, c.total, c.version, n.data
        FROM unnest(abouts, note_names, note_texts) WITH ORDINALITY AS n (about, name, data, place)
        ORDER BY n.place;
    UPDATE {schema}.conversation u SET version = c.version, receipt = c.receipt, segment = c.segment,
        total = c.total, open = c.open, bound = c.bound, title = coalesce(p_title, u.title),
        tags = coalesce(p_tags, u.tags), cost = u.cost + p_cost, updated = v_now, hour = v_now / 3600000000
        WHERE u.id = c.id;
    detail := c.incarnation || '.' || c.version;
END $$;
