CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE revisions (
	name VARCHAR NOT NULL,
	value BIGINT NOT NULL,
	PRIMARY KEY (name)
);

CREATE TABLE api_keys (
	id VARCHAR NOT NULL,
	digest BLOB NOT NULL,
	prefix VARCHAR NOT NULL,
	created_at DOUBLE NOT NULL,
	name VARCHAR NOT NULL,
	owner VARCHAR NOT NULL,
	"plan" VARCHAR,
	models JSON,
	endpoints JSON,
	networks JSON,
	limits JSON,
	expires_at DOUBLE,
	disabled BOOLEAN NOT NULL,
	revoked_at DOUBLE,
	previous_digest BLOB,
	previous_until DOUBLE,
	revision BIGINT NOT NULL, metadata JSON, team VARCHAR,
	PRIMARY KEY (id)
);

CREATE UNIQUE INDEX api_keys_digest ON api_keys (digest);

CREATE UNIQUE INDEX api_keys_previous_digest ON api_keys (previous_digest);

CREATE UNIQUE INDEX api_keys_revision ON api_keys (revision);

CREATE INDEX api_keys_prefix ON api_keys (prefix);

CREATE INDEX api_keys_name ON api_keys (name);

CREATE TABLE responses (
	owner VARCHAR NOT NULL,
	id VARCHAR NOT NULL,
	previous VARCHAR,
	model VARCHAR NOT NULL,
	created_at DOUBLE NOT NULL,
	expires_at DOUBLE NOT NULL,
	input BLOB NOT NULL,
	output BLOB NOT NULL,
	answer BLOB,
	PRIMARY KEY (owner, id),
	FOREIGN KEY(owner, previous) REFERENCES responses (owner, id)
);

CREATE INDEX responses_previous ON responses (owner, previous);

CREATE INDEX responses_expires_at ON responses (expires_at, owner, id);

CREATE TABLE response_items (
	owner VARCHAR NOT NULL,
	item VARCHAR NOT NULL,
	response VARCHAR NOT NULL,
	PRIMARY KEY (owner, item, response),
	FOREIGN KEY(owner, response) REFERENCES responses (owner, id) ON DELETE CASCADE
);

CREATE INDEX response_items_response ON response_items (owner, response);

CREATE TABLE secrets (
	name VARCHAR NOT NULL,
	value BLOB NOT NULL,
	PRIMARY KEY (name)
);

CREATE TABLE ledger (
	id VARCHAR NOT NULL,
	kind VARCHAR NOT NULL,
	account VARCHAR NOT NULL,
	owner VARCHAR NOT NULL,
	"plan" VARCHAR NOT NULL,
	at DOUBLE NOT NULL,
	ended_at DOUBLE NOT NULL,
	endpoint VARCHAR NOT NULL,
	model VARCHAR NOT NULL,
	asked VARCHAR NOT NULL,
	stream BOOLEAN NOT NULL,
	status BIGINT NOT NULL,
	ended VARCHAR NOT NULL,
	on_hangup VARCHAR NOT NULL,
	measured BOOLEAN NOT NULL,
	input BIGINT NOT NULL,
	output BIGINT NOT NULL,
	cache_read BIGINT NOT NULL,
	cache_write BIGINT NOT NULL,
	reasoning BIGINT NOT NULL,
	images BIGINT NOT NULL,
	audio_ms BIGINT NOT NULL,
	jobs BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	from_credits BIGINT NOT NULL,
	reserved BIGINT NOT NULL,
	starts VARCHAR NOT NULL,
	attempts VARCHAR NOT NULL,
	fallback_from VARCHAR NOT NULL,
	first_content_ms DOUBLE,
	upstream_ms DOUBLE NOT NULL,
	duration_ms DOUBLE NOT NULL,
	granted BIGINT NOT NULL,
	note VARCHAR NOT NULL,
	revision BIGINT, characters BIGINT DEFAULT '0' NOT NULL, video_ms BIGINT DEFAULT '0' NOT NULL, parent VARCHAR DEFAULT '' NOT NULL, purpose VARCHAR DEFAULT '' NOT NULL, team VARCHAR DEFAULT '' NOT NULL, team_starts VARCHAR DEFAULT '{}' NOT NULL, tags VARCHAR DEFAULT '' NOT NULL, key_name VARCHAR DEFAULT '' NOT NULL, from_team_credits BIGINT DEFAULT '0' NOT NULL,
	PRIMARY KEY (id)
)
 WITHOUT ROWID;

CREATE INDEX ledger_account ON ledger (account, at, id);

CREATE INDEX ledger_at ON ledger (at, id);

CREATE INDEX ledger_revision ON ledger (revision) WHERE revision IS NOT NULL;

CREATE TABLE ledger_totals (
	account VARCHAR NOT NULL,
	name VARCHAR NOT NULL,
	start DOUBLE NOT NULL,
	at DOUBLE NOT NULL,
	amount BIGINT NOT NULL,
	PRIMARY KEY (account, name, start)
)
 WITHOUT ROWID;

CREATE INDEX ledger_totals_at ON ledger_totals (account, name, at, start);

CREATE TABLE audit (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	at DOUBLE NOT NULL,
	actor VARCHAR NOT NULL,
	action VARCHAR NOT NULL,
	subject VARCHAR NOT NULL,
	detail VARCHAR NOT NULL
);

CREATE TABLE identity (
	id VARCHAR NOT NULL,
	PRIMARY KEY (id)
);

CREATE TABLE files (
	id VARCHAR NOT NULL,
	owner VARCHAR NOT NULL,
	state VARCHAR NOT NULL,
	"key" VARCHAR NOT NULL,
	filename VARCHAR NOT NULL,
	mime VARCHAR NOT NULL,
	size BIGINT NOT NULL,
	sha256 VARCHAR NOT NULL,
	purpose VARCHAR NOT NULL,
	created_at DOUBLE NOT NULL,
	expires_at DOUBLE,
	reserved BIGINT NOT NULL,
	lease_until DOUBLE NOT NULL,
	PRIMARY KEY (id)
);

CREATE INDEX files_owner ON files (owner, created_at, id);

CREATE INDEX files_expires_at ON files (expires_at);

CREATE INDEX files_lease ON files (lease_until) WHERE state <> 'ready';

CREATE TABLE storage (
	owner VARCHAR NOT NULL,
	used BIGINT NOT NULL,
	reserved BIGINT NOT NULL,
	PRIMARY KEY (owner)
);

CREATE TABLE leases (
	name VARCHAR NOT NULL,
	holder VARCHAR NOT NULL,
	until DOUBLE NOT NULL,
	PRIMARY KEY (name)
);

CREATE TABLE uploads (
	id VARCHAR NOT NULL,
	owner VARCHAR NOT NULL,
	state VARCHAR NOT NULL,
	filename VARCHAR NOT NULL,
	mime VARCHAR NOT NULL,
	purpose VARCHAR NOT NULL,
	size BIGINT NOT NULL,
	received BIGINT NOT NULL,
	reserved BIGINT NOT NULL,
	created_at DOUBLE NOT NULL,
	expires_at DOUBLE NOT NULL,
	keep DOUBLE,
	file VARCHAR,
	lease_until DOUBLE NOT NULL,
	PRIMARY KEY (id)
);

CREATE INDEX uploads_expires_at ON uploads (expires_at);

CREATE TABLE upload_parts (
	id VARCHAR NOT NULL,
	upload VARCHAR NOT NULL,
	owner VARCHAR NOT NULL,
	state VARCHAR NOT NULL,
	"key" VARCHAR NOT NULL,
	size BIGINT NOT NULL,
	created_at DOUBLE NOT NULL,
	lease_until DOUBLE NOT NULL,
	PRIMARY KEY (id)
);

CREATE INDEX upload_parts_upload ON upload_parts (upload);

CREATE INDEX upload_parts_lease ON upload_parts (lease_until) WHERE state <> 'ready';

CREATE TABLE descriptions (
	owner VARCHAR NOT NULL,
	"key" VARCHAR NOT NULL,
	text VARCHAR,
	created_at DOUBLE NOT NULL,
	used_at DOUBLE NOT NULL,
	token VARCHAR NOT NULL,
	lease_until DOUBLE NOT NULL,
	PRIMARY KEY (owner, "key")
);

CREATE INDEX descriptions_used_at ON descriptions (owner, used_at);

CREATE INDEX descriptions_created_at ON descriptions (created_at);

CREATE INDEX ledger_parent ON ledger (parent) WHERE parent <> '';

CREATE TABLE jobs (
	id VARCHAR NOT NULL,
	owner VARCHAR NOT NULL,
	kind VARCHAR NOT NULL,
	model VARCHAR NOT NULL,
	created_at DOUBLE NOT NULL,
	request BLOB NOT NULL,
	media BLOB NOT NULL,
	terms BLOB NOT NULL,
	entry_id VARCHAR NOT NULL,
	reservation BLOB NOT NULL,
	"key" VARCHAR,
	fingerprint VARCHAR NOT NULL,
	callback VARCHAR NOT NULL,
	source VARCHAR NOT NULL,
	storage BIGINT NOT NULL,
	state VARCHAR NOT NULL,
	fence BIGINT NOT NULL,
	holder VARCHAR NOT NULL,
	lease_until DOUBLE NOT NULL,
	due DOUBLE,
	since DOUBLE NOT NULL,
	tries BIGINT NOT NULL,
	place BIGINT NOT NULL,
	upstream VARCHAR NOT NULL,
	upstream_id VARCHAR NOT NULL,
	token VARCHAR NOT NULL,
	cancelling BOOLEAN NOT NULL,
	asked BOOLEAN NOT NULL,
	deleted BOOLEAN NOT NULL,
	progress BIGINT NOT NULL,
	results BLOB NOT NULL,
	error BLOB NOT NULL,
	reported BLOB NOT NULL,
	charged BIGINT,
	notices BIGINT NOT NULL,
	started_at DOUBLE,
	finished_at DOUBLE,
	expires_at DOUBLE,
	PRIMARY KEY (id)
);

CREATE UNIQUE INDEX jobs_key ON jobs (owner, "key");

CREATE UNIQUE INDEX jobs_entry ON jobs (entry_id);

CREATE INDEX jobs_owner ON jobs (owner, kind, created_at, id);

CREATE INDEX jobs_upstream_id ON jobs (upstream_id);

CREATE INDEX jobs_due ON jobs (due) WHERE due IS NOT NULL;

CREATE TABLE vendor_files (
	account VARCHAR NOT NULL,
	file_id VARCHAR NOT NULL,
	vendor_id VARCHAR NOT NULL,
	expires_at DOUBLE NOT NULL,
	PRIMARY KEY (account, file_id)
);

CREATE INDEX vendor_files_file_id ON vendor_files (file_id);

CREATE INDEX vendor_files_expires_at ON vendor_files (expires_at);

CREATE TABLE teams (
	id VARCHAR NOT NULL,
	created_at DOUBLE NOT NULL,
	name VARCHAR NOT NULL,
	"plan" VARCHAR,
	limits JSON,
	metadata JSON,
	disabled BOOLEAN NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (id)
);

CREATE UNIQUE INDEX teams_revision ON teams (revision);

CREATE INDEX teams_name ON teams (name);

CREATE INDEX teams_created_at ON teams (created_at, id);

CREATE INDEX api_keys_team ON api_keys (team, created_at, id);

CREATE TABLE alerts (
	account VARCHAR NOT NULL,
	name VARCHAR NOT NULL,
	start DOUBLE NOT NULL,
	share BIGINT NOT NULL,
	id VARCHAR NOT NULL,
	body BLOB NOT NULL,
	created_at DOUBLE NOT NULL,
	ends_at DOUBLE,
	due DOUBLE,
	tries BIGINT NOT NULL,
	PRIMARY KEY (account, name, start, share)
);

CREATE UNIQUE INDEX alerts_id ON alerts (id);

CREATE INDEX alerts_ends_at ON alerts (ends_at);

CREATE INDEX alerts_due ON alerts (due) WHERE due IS NOT NULL;

CREATE INDEX ledger_grants ON ledger (account, revision) WHERE revision IS NOT NULL;

CREATE TABLE spend_days (
	day BIGINT NOT NULL,
	team VARCHAR NOT NULL,
	model VARCHAR NOT NULL,
	endpoint VARCHAR NOT NULL,
	tagged BOOLEAN NOT NULL,
	requests BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	input BIGINT NOT NULL,
	output BIGINT NOT NULL,
	cache_read BIGINT NOT NULL,
	cache_write BIGINT NOT NULL,
	reasoning BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	images BIGINT NOT NULL,
	audio_ms BIGINT NOT NULL,
	characters BIGINT NOT NULL,
	video_ms BIGINT NOT NULL,
	jobs BIGINT NOT NULL,
	PRIMARY KEY (day, team, model, endpoint, tagged)
)
 WITHOUT ROWID;

CREATE TABLE spend_owners (
	owner VARCHAR NOT NULL,
	day BIGINT NOT NULL,
	team VARCHAR NOT NULL,
	model VARCHAR NOT NULL,
	endpoint VARCHAR NOT NULL,
	tagged BOOLEAN NOT NULL,
	requests BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	input BIGINT NOT NULL,
	output BIGINT NOT NULL,
	cache_read BIGINT NOT NULL,
	cache_write BIGINT NOT NULL,
	reasoning BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	images BIGINT NOT NULL,
	audio_ms BIGINT NOT NULL,
	characters BIGINT NOT NULL,
	video_ms BIGINT NOT NULL,
	jobs BIGINT NOT NULL,
	PRIMARY KEY (owner, day, team, model, endpoint, tagged)
)
 WITHOUT ROWID;

CREATE TABLE spend_keys (
	account VARCHAR NOT NULL,
	day BIGINT NOT NULL,
	team VARCHAR NOT NULL,
	owner VARCHAR NOT NULL,
	model VARCHAR NOT NULL,
	endpoint VARCHAR NOT NULL,
	purpose VARCHAR NOT NULL,
	tagged BOOLEAN NOT NULL,
	requests BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	input BIGINT NOT NULL,
	output BIGINT NOT NULL,
	cache_read BIGINT NOT NULL,
	cache_write BIGINT NOT NULL,
	reasoning BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	images BIGINT NOT NULL,
	audio_ms BIGINT NOT NULL,
	characters BIGINT NOT NULL,
	video_ms BIGINT NOT NULL,
	jobs BIGINT NOT NULL,
	PRIMARY KEY (account, day, team, owner, model, endpoint, purpose, tagged)
)
 WITHOUT ROWID;

CREATE TABLE spend_tags (
	tag VARCHAR NOT NULL,
	day BIGINT NOT NULL,
	team VARCHAR NOT NULL,
	model VARCHAR NOT NULL,
	endpoint VARCHAR NOT NULL,
	requests BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	input BIGINT NOT NULL,
	output BIGINT NOT NULL,
	cache_read BIGINT NOT NULL,
	cache_write BIGINT NOT NULL,
	reasoning BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	images BIGINT NOT NULL,
	audio_ms BIGINT NOT NULL,
	characters BIGINT NOT NULL,
	video_ms BIGINT NOT NULL,
	jobs BIGINT NOT NULL,
	PRIMARY KEY (tag, day, team, model, endpoint)
)
 WITHOUT ROWID;

CREATE TABLE spend_key_tags (
	tag VARCHAR NOT NULL,
	account VARCHAR NOT NULL,
	day BIGINT NOT NULL,
	team VARCHAR NOT NULL,
	owner VARCHAR NOT NULL,
	model VARCHAR NOT NULL,
	endpoint VARCHAR NOT NULL,
	purpose VARCHAR NOT NULL,
	requests BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	input BIGINT NOT NULL,
	output BIGINT NOT NULL,
	cache_read BIGINT NOT NULL,
	cache_write BIGINT NOT NULL,
	reasoning BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	images BIGINT NOT NULL,
	audio_ms BIGINT NOT NULL,
	characters BIGINT NOT NULL,
	video_ms BIGINT NOT NULL,
	jobs BIGINT NOT NULL,
	PRIMARY KEY (tag, account, day, team, owner, model, endpoint, purpose)
)
 WITHOUT ROWID;

CREATE INDEX spend_keys_day ON spend_keys (day, account);

CREATE INDEX spend_key_tags_owner ON spend_key_tags (tag, owner, day);

CREATE INDEX spend_key_tags_account ON spend_key_tags (account, tag, day);

CREATE INDEX api_keys_owner ON api_keys (owner, created_at, id);

CREATE INDEX api_keys_created_at ON api_keys (created_at, id);

CREATE INDEX spend_keys_owner ON spend_keys (owner, account, day) WHERE owner <> '';

CREATE INDEX spend_keys_team ON spend_keys (team, account, day) WHERE team <> '';

CREATE INDEX ledger_owner ON ledger (owner, at, id) WHERE owner <> '';

CREATE INDEX ledger_team ON ledger (team, at, id) WHERE team <> '';

CREATE INDEX ledger_credits ON ledger (account, at, id) WHERE kind = 'credit';

CREATE INDEX ledger_failures ON ledger (at, id) WHERE (ended <> 'completed' OR status >= 400);

CREATE INDEX api_keys_name_search ON api_keys ((lower(name)) );

CREATE INDEX api_keys_owner_search ON api_keys ((lower(owner)) );

CREATE INDEX api_keys_prefix_search ON api_keys ((lower(prefix)) );

CREATE TABLE sessions (
	digest BLOB NOT NULL,
	how VARCHAR NOT NULL,
	role VARCHAR NOT NULL,
	subject VARCHAR NOT NULL,
	bound_to BLOB NOT NULL,
	owner VARCHAR NOT NULL,
	name VARCHAR NOT NULL,
	address VARCHAR NOT NULL,
	agent VARCHAR NOT NULL,
	created_at DOUBLE NOT NULL,
	seen_at DOUBLE NOT NULL,
	expires_at DOUBLE NOT NULL,
	PRIMARY KEY (digest)
);

CREATE INDEX sessions_subject ON sessions (how, subject, seen_at);

CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE INDEX sessions_seen_at ON sessions (role, seen_at);

CREATE TABLE compatibility (
	oldest_program VARCHAR NOT NULL,
	PRIMARY KEY (oldest_program)
);

CREATE TABLE response_totals (
	owner VARCHAR NOT NULL,
	responses BIGINT NOT NULL,
	size BIGINT NOT NULL,
	PRIMARY KEY (owner)
);

CREATE TRIGGER responses_added AFTER INSERT ON responses BEGIN
        INSERT INTO response_totals (owner, responses, size) VALUES (new.owner, 1, length(new.input) + length(new.output) + coalesce(length(new.answer), 0))
        ON CONFLICT (owner) DO UPDATE
        SET responses = responses + 1, size = size + excluded.size; END;

CREATE TRIGGER responses_changed AFTER UPDATE OF input, output, answer ON responses BEGIN
        UPDATE response_totals SET size = size + (length(new.input) + length(new.output) + coalesce(length(new.answer), 0)) - (length(old.input) + length(old.output) + coalesce(length(old.answer), 0))
        WHERE owner = new.owner; END;

CREATE TRIGGER responses_removed AFTER DELETE ON responses BEGIN
        UPDATE response_totals SET responses = responses - 1, size = size - (length(old.input) + length(old.output) + coalesce(length(old.answer), 0))
        WHERE owner = old.owner; END;

INSERT INTO "alembic_version" VALUES('0016');

INSERT INTO "compatibility" VALUES('0015');

INSERT INTO "revisions" VALUES('keys',0);

INSERT INTO "revisions" VALUES('credits',0);
