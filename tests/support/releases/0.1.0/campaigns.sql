PRAGMA application_id = 1667329392;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
CREATE TABLE account_budget (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    daily    INTEGER CHECK (daily >= 0),
    weekly   INTEGER CHECK (weekly >= 0),
    monthly  INTEGER CHECK (monthly >= 0),
    timezone TEXT NOT NULL
) STRICT;
INSERT INTO "account_budget" VALUES(1,50000000,NULL,500000000,'UTC');
CREATE TABLE alerts (
    campaign_key TEXT NOT NULL,
    alert_key    TEXT NOT NULL,
    claimed_at   TEXT NOT NULL,
    told_at      TEXT,
    PRIMARY KEY (campaign_key, alert_key)
) STRICT, WITHOUT ROWID;
INSERT INTO "alerts" VALUES('upgraded-budget','campaign daily:2026-11-29 0.8','2026-11-30T02:42:02.727503+00:00','2026-11-30T02:42:02.749916+00:00');
CREATE TABLE approvals (
    id           INTEGER PRIMARY KEY,
    campaign_key TEXT NOT NULL,
    run_id       TEXT NOT NULL,
    step         TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'expired', 'withdrawn')),
    asked_at     TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    decided_at   TEXT,
    decided_by   TEXT,
    UNIQUE (run_id, step),
    CHECK ((decided_at IS NULL) = (state = 'waiting') AND (decided_by IS NULL) = (state = 'waiting'))
) STRICT;
INSERT INTO "approvals" VALUES(1,'upgraded-suspended','b9c6fb56-b71b-4c63-8803-235860ac4a4a','sending','waiting','2026-11-30T02:41:59.663372+00:00','2026-12-07T02:41:59.663372+00:00',NULL,NULL);
CREATE TABLE audit (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    at           TEXT NOT NULL,
    actor        TEXT NOT NULL,
    action       TEXT NOT NULL,
    campaign_key TEXT,
    detail       TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;
INSERT INTO "audit" VALUES(1,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-budget','{"version": "517b686c8c50", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(2,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-failed','{"version": "24c0872697a0", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(3,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-handed-back','{"version": "3b799fc1814c", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(4,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-killed-sending','{"version": "fc1784b62d39", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(5,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-killed','{"version": "a697a0ce907c", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(6,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-paused','{"version": "68648c130d9f", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(7,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-routine','{"version": "438440805057", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(8,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-scheduled','{"version": "a8fdff6488db", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(9,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-suspended','{"version": "fd661124d415", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(10,'2026-11-30T02:41:37.157449+00:00','root@vm','campaign.created','upgraded-unconfirmed','{"version": "ffebb4a86079", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(11,'2026-11-30T02:41:40.686973+00:00','root@vm','account.limited',NULL,'{"daily": "50.00", "weekly": null, "monthly": "500.00", "timezone": "UTC"}');
INSERT INTO "audit" VALUES(12,'2026-11-30T02:41:43.882034+00:00','root@vm','campaign.paused','upgraded-paused','{"reason": "holidays"}');
INSERT INTO "audit" VALUES(13,'2026-11-30T02:41:51.923058+00:00','root@vm','run.started','upgraded-routine','{"run": "enlightened-hoatzin", "runId": "a5cdb233-ac0b-4e1f-bc22-0afb339e947f"}');
INSERT INTO "audit" VALUES(14,'2026-11-30T02:41:58.803746+00:00','root@vm','run.started','upgraded-suspended','{"run": "effective-bullfrog", "runId": "b9c6fb56-b71b-4c63-8803-235860ac4a4a"}');
INSERT INTO "audit" VALUES(15,'2026-11-30T02:42:02.327931+00:00','root@vm','run.started','upgraded-budget','{"run": "romantic-caribou", "runId": "603d84e8-c0e7-436c-90ce-0fa60750f1d7"}');
INSERT INTO "audit" VALUES(16,'2026-11-30T02:42:07.462178+00:00','root@vm','run.started','upgraded-failed','{"run": "quiet-binturong", "runId": "987e0012-269c-41db-be8d-5152d6f51399"}');
INSERT INTO "audit" VALUES(17,'2026-11-30T02:42:11.339620+00:00','root@vm','run.started','upgraded-unconfirmed','{"run": "traditional-mule", "runId": "13e556bb-7af2-4d34-95b3-5246f2338877"}');
INSERT INTO "audit" VALUES(18,'2026-11-30T02:42:15.306195+00:00','root@vm','run.started','upgraded-routine','{"run": "humongous-teal", "runId": "bb94cc39-7e7c-47fb-870c-2a83c481ed30"}');
INSERT INTO "audit" VALUES(19,'2026-11-30T02:42:20.096748+00:00','root@vm','run.started','upgraded-killed-sending','{"run": "marvellous-boobook", "runId": "3bafecbb-3312-496b-80e8-7ebe98e0d9b4"}');
INSERT INTO "audit" VALUES(20,'2026-11-30T02:42:30.083182+00:00','root@vm','run.started','upgraded-killed','{"run": "lovely-caribou", "runId": "c0973c6b-7eda-4624-9ac6-59b8867a0708"}');
INSERT INTO "audit" VALUES(21,'2026-11-30T02:42:40.028168+00:00','root@vm','run.started','upgraded-handed-back','{"run": "loutish-hedgehog", "runId": "8a5d7bca-eec7-481a-915f-4ce9283f8f85"}');
CREATE TABLE "campaigns" (
    key                     TEXT PRIMARY KEY CHECK (key <> ''),
    id                      TEXT NOT NULL UNIQUE,
    name                    TEXT NOT NULL,
    config                  TEXT NOT NULL CHECK (json_valid(config)),
    -- The folder of its file, or 'api'; NULL where nobody wrote that down.
    origin                  TEXT,
    deployment_id           TEXT,
    applied_schedule_active INTEGER CHECK (applied_schedule_active IN (0, 1)),
    paused_by               TEXT CHECK (paused_by IN ('budget', 'person', 'stop')),
    pause_reason            TEXT CHECK ((pause_reason IS NULL) = (paused_by IS NULL)),
    paused_since            TEXT CHECK ((paused_since IS NULL) = (paused_by IS NULL)),
    paused_until            TEXT CHECK (paused_until IS NULL OR paused_by IS NOT NULL),
    awaited_run_id          TEXT CHECK (awaited_run_id IS NULL OR paused_by IS NOT NULL),
    created_at              TEXT NOT NULL,
    updated_at              TEXT NOT NULL
) STRICT;
INSERT INTO "campaigns" VALUES('upgraded-budget','05daca9c-32e4-47ee-b414-704c7842658c','Upgraded Budget','{"name":"Upgraded Budget","description":null,"schedule":{"cron":"0 9 1 1 *","timezone":"Etc/GMT+3","enabled":true,"overlap":"queue"},"budget":{"daily":"0.01","weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','75637226-9b33-4ccc-976c-3763868196a8',1,'budget','budget: daily 0.01 reached, spent 0.012','2026-11-30T02:42:02.765041+00:00','2026-11-30T03:00:00.000000+00:00','01a22a54-b403-7579-96a7-9ce6801a2a67','2026-11-30T02:41:36.340410+00:00','2026-11-30T02:41:36.627463+00:00');
INSERT INTO "campaigns" VALUES('upgraded-failed','9fcb2e9d-6024-4660-b519-9d722bbce832','Upgraded Failed','{"name":"Upgraded Failed","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','f5f0e3cc-4963-4e26-93fb-dea9e54c45e5',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:41:36.342245+00:00','2026-11-30T02:41:36.496653+00:00');
INSERT INTO "campaigns" VALUES('upgraded-handed-back','2c18b45c-2d68-4394-98a2-60df2045e723','Upgraded Handed Back','{"name":"Upgraded Handed Back","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.25","costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','6f3a29eb-3c5f-49bb-ae2f-8585e6491be8',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:41:36.342978+00:00','2026-11-30T02:41:36.548027+00:00');
INSERT INTO "campaigns" VALUES('upgraded-killed-sending','dd5784ba-deba-4e84-ae0e-945188ca69a2','Upgraded Killed Sending','{"name":"Upgraded Killed Sending","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','e5a9d37f-0751-49f9-b6e6-e7a34a515fe9',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:41:36.343567+00:00','2026-11-30T02:41:36.647523+00:00');
INSERT INTO "campaigns" VALUES('upgraded-killed','7a720399-a4ab-4edb-aa58-3a6af8791e3e','Upgraded Killed','{"name":"Upgraded Killed","description":null,"schedule":null,"budget":{"daily":"5.00","weekly":"20.00","monthly":"80.00","perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.25","costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','c3d7c83a-05bb-45bf-9d0f-e7d279556c8b',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:41:36.344288+00:00','2026-11-30T02:41:36.930802+00:00');
INSERT INTO "campaigns" VALUES('upgraded-paused','01d8632b-f902-47f3-9498-9481c50804e8','Upgraded Paused','{"name":"Upgraded Paused","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','11dbacb6-5470-45ec-b6be-e95f08f9bd0d',0,'person','holidays','2026-11-30T02:41:43.712922+00:00',NULL,NULL,'2026-11-30T02:41:36.344902+00:00','2026-11-30T02:41:37.154218+00:00');
INSERT INTO "campaigns" VALUES('upgraded-routine','d6fdf632-fd3d-4e79-b6ff-dcd20a47cbfd','Upgraded Routine','{"name":"Upgraded Routine","description":null,"schedule":{"cron":"0 9 1 1 *","timezone":"America/New_York","enabled":true,"overlap":"queue"},"budget":{"daily":"5.00","weekly":"20.00","monthly":"80.00","perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{"Authorization":"Bearer {{ secret.campaigns-header-upgraded-routine-prospecting-authorization-c53808b39232 }}"},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','93802e55-567a-4b6f-a263-5c853f7b310f',1,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:41:36.345463+00:00','2026-11-30T02:41:36.723848+00:00');
INSERT INTO "campaigns" VALUES('upgraded-scheduled','30b1852b-4409-419a-9d32-4e80fa38280b','Upgraded Scheduled','{"name":"Upgraded Scheduled","description":null,"schedule":null,"budget":{"daily":"5.00","weekly":"20.00","monthly":"80.00","perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','ecf83f16-aa1d-4326-930b-42d900392ef6',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:41:36.346190+00:00','2026-11-30T02:41:37.002446+00:00');
INSERT INTO "campaigns" VALUES('upgraded-suspended','3f5dcad1-b4e6-44d5-b681-d7103f158c23','Upgraded Suspended','{"name":"Upgraded Suspended","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":{"timeout":604800000,"onTimeout":"abort"},"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','b87d0868-c07c-4845-8877-c403ecf62f35',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:41:36.622644+00:00','2026-11-30T02:41:36.840634+00:00');
INSERT INTO "campaigns" VALUES('upgraded-unconfirmed','7ff36ba5-8478-44d0-8b52-55ad64255825','Upgraded Unconfirmed','{"name":"Upgraded Unconfirmed","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":1000,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":true,"estimatedCost":"0.25","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','435ac7ca-56f3-49de-aa3f-0933b4132bd8',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:41:36.633443+00:00','2026-11-30T02:41:36.774018+00:00');
CREATE TABLE lease_queue (
    campaign_key  TEXT NOT NULL,
    run_id        TEXT NOT NULL,
    run_name      TEXT NOT NULL,
    waiting_since TEXT NOT NULL,
    asked_at      TEXT NOT NULL,
    PRIMARY KEY (campaign_key, run_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
    campaign_key TEXT PRIMARY KEY,
    fence        INTEGER NOT NULL CHECK (fence > 0),
    run_id       TEXT,
    run_name     TEXT,
    holder       TEXT,
    expires_at   TEXT,
    CHECK ((holder IS NULL) = (run_id IS NULL) AND (holder IS NULL) = (expires_at IS NULL))
) STRICT;
INSERT INTO "leases" VALUES('@apply',1,NULL,NULL,NULL,NULL);
INSERT INTO "leases" VALUES('upgraded-routine',2,NULL,NULL,NULL,NULL);
INSERT INTO "leases" VALUES('upgraded-suspended',1,NULL,NULL,NULL,NULL);
INSERT INTO "leases" VALUES('upgraded-budget',1,NULL,NULL,NULL,NULL);
INSERT INTO "leases" VALUES('upgraded-failed',1,NULL,NULL,NULL,NULL);
INSERT INTO "leases" VALUES('upgraded-unconfirmed',1,NULL,NULL,NULL,NULL);
INSERT INTO "leases" VALUES('upgraded-killed-sending',1,'3bafecbb-3312-496b-80e8-7ebe98e0d9b4','marvellous-boobook','deee5f7f73c947da99fa9a89ffe0ee55','2026-11-30T02:43:35.377929+00:00');
INSERT INTO "leases" VALUES('upgraded-killed',1,'c0973c6b-7eda-4624-9ac6-59b8867a0708','lovely-caribou','22aa4e518d0b4430b7c3beaafb71b3eb','2026-11-30T02:43:30.286217+00:00');
INSERT INTO "leases" VALUES('upgraded-handed-back',1,NULL,NULL,NULL,NULL);
CREATE TABLE "ledger" (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    at             TEXT NOT NULL,
    campaign_key   TEXT NOT NULL,
    run_id         TEXT NOT NULL,
    step           TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('reserve', 'settle', 'release', 'unconfirmed', 'correct')),
    spent          INTEGER NOT NULL,
    reserved       INTEGER NOT NULL,
    daily_window   TEXT NOT NULL,
    weekly_window  TEXT NOT NULL,
    monthly_window TEXT NOT NULL,
    account_day    TEXT NOT NULL CHECK (account_day IS date(account_day)),
    -- Who corrected it, and why; NULL where an engine said so.
    "by"           TEXT,
    note           TEXT,
    CHECK (("by" IS NULL) = (note IS NULL) AND ("by" IS NULL OR kind = 'correct'))
) STRICT;
INSERT INTO "ledger" VALUES(1,'2026-11-30T02:41:53.886818+00:00','upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','prospecting',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(2,'2026-11-30T02:41:53.991121+00:00','upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','prospecting',1,'settle',12000,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(3,'2026-11-30T02:41:54.035934+00:00','upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','analysis',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(4,'2026-11-30T02:41:54.508982+00:00','upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','analysis',1,'settle',15000,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(5,'2026-11-30T02:41:54.569396+00:00','upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','sending',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(6,'2026-11-30T02:41:54.588343+00:00','upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','sending',1,'settle',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(7,'2026-11-30T02:41:59.125346+00:00','upgraded-suspended','b9c6fb56-b71b-4c63-8803-235860ac4a4a','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(8,'2026-11-30T02:41:59.177345+00:00','upgraded-suspended','b9c6fb56-b71b-4c63-8803-235860ac4a4a','prospecting',1,'settle',12000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(9,'2026-11-30T02:41:59.204139+00:00','upgraded-suspended','b9c6fb56-b71b-4c63-8803-235860ac4a4a','analysis',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(10,'2026-11-30T02:41:59.563583+00:00','upgraded-suspended','b9c6fb56-b71b-4c63-8803-235860ac4a4a','analysis',1,'settle',15000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(11,'2026-11-30T02:42:02.606171+00:00','upgraded-budget','603d84e8-c0e7-436c-90ce-0fa60750f1d7','prospecting',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(12,'2026-11-30T02:42:02.655641+00:00','upgraded-budget','603d84e8-c0e7-436c-90ce-0fa60750f1d7','prospecting',1,'settle',12000,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(13,'2026-11-30T02:42:07.701417+00:00','upgraded-failed','987e0012-269c-41db-be8d-5152d6f51399','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(14,'2026-11-30T02:42:07.723339+00:00','upgraded-failed','987e0012-269c-41db-be8d-5152d6f51399','prospecting',1,'settle',1000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(15,'2026-11-30T02:42:11.594666+00:00','upgraded-unconfirmed','13e556bb-7af2-4d34-95b3-5246f2338877','prospecting',1,'reserve',0,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(16,'2026-11-30T02:42:12.598882+00:00','upgraded-unconfirmed','13e556bb-7af2-4d34-95b3-5246f2338877','prospecting',1,'unconfirmed',250000,-250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(17,'2026-11-30T02:42:15.728575+00:00','upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','prospecting',1,'reserve',0,12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(18,'2026-11-30T02:42:15.762797+00:00','upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','prospecting',1,'settle',12000,-12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(19,'2026-11-30T02:42:15.803841+00:00','upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','analysis',1,'reserve',0,15000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(20,'2026-11-30T02:42:16.185563+00:00','upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','analysis',1,'settle',15000,-15000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(21,'2026-11-30T02:42:16.230403+00:00','upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','sending',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(22,'2026-11-30T02:42:16.297653+00:00','upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','sending',1,'settle',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(23,'2026-11-30T02:42:20.417797+00:00','upgraded-killed-sending','3bafecbb-3312-496b-80e8-7ebe98e0d9b4','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(24,'2026-11-30T02:42:20.485493+00:00','upgraded-killed-sending','3bafecbb-3312-496b-80e8-7ebe98e0d9b4','prospecting',1,'settle',12000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(25,'2026-11-30T02:42:20.504319+00:00','upgraded-killed-sending','3bafecbb-3312-496b-80e8-7ebe98e0d9b4','analysis',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(26,'2026-11-30T02:42:20.913894+00:00','upgraded-killed-sending','3bafecbb-3312-496b-80e8-7ebe98e0d9b4','analysis',1,'settle',15000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(27,'2026-11-30T02:42:20.949944+00:00','upgraded-killed-sending','3bafecbb-3312-496b-80e8-7ebe98e0d9b4','sending',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(28,'2026-11-30T02:42:30.301104+00:00','upgraded-killed','c0973c6b-7eda-4624-9ac6-59b8867a0708','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(29,'2026-11-30T02:42:30.359736+00:00','upgraded-killed','c0973c6b-7eda-4624-9ac6-59b8867a0708','prospecting',1,'settle',12000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(30,'2026-11-30T02:42:30.629854+00:00','upgraded-killed','c0973c6b-7eda-4624-9ac6-59b8867a0708','analysis',1,'reserve',0,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(31,'2026-11-30T02:42:41.598015+00:00','upgraded-handed-back','8a5d7bca-eec7-481a-915f-4ce9283f8f85','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(32,'2026-11-30T02:42:41.627712+00:00','upgraded-handed-back','8a5d7bca-eec7-481a-915f-4ce9283f8f85','prospecting',1,'settle',12000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(33,'2026-11-30T02:42:41.733236+00:00','upgraded-handed-back','8a5d7bca-eec7-481a-915f-4ce9283f8f85','analysis',1,'reserve',0,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(34,'2026-11-30T02:42:42.945540+00:00','upgraded-handed-back','8a5d7bca-eec7-481a-915f-4ce9283f8f85','analysis',1,'unconfirmed',250000,-250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
CREATE TABLE "reservations" (
    id             INTEGER PRIMARY KEY,
    campaign_key   TEXT NOT NULL,
    run_id         TEXT NOT NULL,
    step           TEXT NOT NULL,
    attempt        INTEGER NOT NULL CHECK (attempt >= 1),
    state          TEXT NOT NULL
                   CHECK (state IN ('held', 'sent', 'settled', 'released', 'unconfirmed', 'corrected')),
    estimate       INTEGER NOT NULL CHECK (estimate >= 0),
    booked         INTEGER CHECK (booked >= 0),
    -- The windows at the moment of the reservation; whatever is booked later is booked into these.
    daily_window   TEXT NOT NULL,
    weekly_window  TEXT NOT NULL,
    monthly_window TEXT NOT NULL,
    -- The same moment's local day (2026-05-13) in the timezone of the account; its week and month follow from it.
    account_day    TEXT NOT NULL CHECK (account_day IS date(account_day)),
    reserved_at    TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    UNIQUE (run_id, step, attempt),
    CHECK ((booked IS NULL) = (state IN ('held', 'sent', 'released')))
) STRICT;
INSERT INTO "reservations" VALUES(1,'upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','prospecting',1,'settled',0,12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:41:53.886818+00:00','2026-11-30T02:47:53.886818+00:00');
INSERT INTO "reservations" VALUES(2,'upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','analysis',1,'settled',0,15000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:41:54.035934+00:00','2026-11-30T02:52:54.035934+00:00');
INSERT INTO "reservations" VALUES(3,'upgraded-routine','a5cdb233-ac0b-4e1f-bc22-0afb339e947f','sending',1,'settled',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:41:54.569396+00:00','2026-11-30T02:52:54.569396+00:00');
INSERT INTO "reservations" VALUES(4,'upgraded-suspended','b9c6fb56-b71b-4c63-8803-235860ac4a4a','prospecting',1,'settled',0,12000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:41:59.125346+00:00','2026-11-30T02:47:59.125346+00:00');
INSERT INTO "reservations" VALUES(5,'upgraded-suspended','b9c6fb56-b71b-4c63-8803-235860ac4a4a','analysis',1,'settled',0,15000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:41:59.204139+00:00','2026-11-30T02:52:59.204139+00:00');
INSERT INTO "reservations" VALUES(6,'upgraded-budget','603d84e8-c0e7-436c-90ce-0fa60750f1d7','prospecting',1,'settled',0,12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:02.606171+00:00','2026-11-30T02:48:02.606171+00:00');
INSERT INTO "reservations" VALUES(7,'upgraded-failed','987e0012-269c-41db-be8d-5152d6f51399','prospecting',1,'settled',0,1000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:07.701417+00:00','2026-11-30T02:48:07.701417+00:00');
INSERT INTO "reservations" VALUES(8,'upgraded-unconfirmed','13e556bb-7af2-4d34-95b3-5246f2338877','prospecting',1,'unconfirmed',250000,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:11.594666+00:00','2026-11-30T02:43:12.594666+00:00');
INSERT INTO "reservations" VALUES(9,'upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','prospecting',1,'settled',12000,12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:15.728575+00:00','2026-11-30T02:48:15.728575+00:00');
INSERT INTO "reservations" VALUES(10,'upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','analysis',1,'settled',15000,15000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:15.803841+00:00','2026-11-30T02:53:15.803841+00:00');
INSERT INTO "reservations" VALUES(11,'upgraded-routine','bb94cc39-7e7c-47fb-870c-2a83c481ed30','sending',1,'settled',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:16.230403+00:00','2026-11-30T02:53:16.230403+00:00');
INSERT INTO "reservations" VALUES(12,'upgraded-killed-sending','3bafecbb-3312-496b-80e8-7ebe98e0d9b4','prospecting',1,'settled',0,12000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:20.417797+00:00','2026-11-30T02:48:20.417797+00:00');
INSERT INTO "reservations" VALUES(13,'upgraded-killed-sending','3bafecbb-3312-496b-80e8-7ebe98e0d9b4','analysis',1,'settled',0,15000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:20.504319+00:00','2026-11-30T02:53:20.504319+00:00');
INSERT INTO "reservations" VALUES(14,'upgraded-killed-sending','3bafecbb-3312-496b-80e8-7ebe98e0d9b4','sending',1,'sent',0,NULL,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:20.949944+00:00','2026-11-30T02:53:20.949944+00:00');
INSERT INTO "reservations" VALUES(15,'upgraded-killed','c0973c6b-7eda-4624-9ac6-59b8867a0708','prospecting',1,'settled',0,12000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:30.301104+00:00','2026-11-30T02:48:30.301104+00:00');
INSERT INTO "reservations" VALUES(16,'upgraded-killed','c0973c6b-7eda-4624-9ac6-59b8867a0708','analysis',1,'sent',250000,NULL,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:30.629854+00:00','2026-11-30T02:53:30.629854+00:00');
INSERT INTO "reservations" VALUES(17,'upgraded-handed-back','8a5d7bca-eec7-481a-915f-4ce9283f8f85','prospecting',1,'settled',0,12000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:41.598015+00:00','2026-11-30T02:48:41.598015+00:00');
INSERT INTO "reservations" VALUES(18,'upgraded-handed-back','8a5d7bca-eec7-481a-915f-4ce9283f8f85','analysis',1,'unconfirmed',250000,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:42:41.733236+00:00','2026-11-30T02:53:41.733236+00:00');
CREATE TABLE run_steps (
    run_id       TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    name         TEXT NOT NULL,
    position     INTEGER NOT NULL,
    engine       TEXT NOT NULL,
    status       TEXT NOT NULL,
    attempts     INTEGER NOT NULL,
    started_at   TEXT,
    completed_at TEXT,
    cost         INTEGER,
    detail       TEXT NOT NULL CHECK (json_valid(detail)),
    PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "run_steps" VALUES('13e556bb-7af2-4d34-95b3-5246f2338877','prospecting',0,'prospecting','failed',1,'2026-11-30T02:42:11.596762+00:00','2026-11-30T02:42:12.621233+00:00',250000,'{"counts": {}, "result": null, "warnings": [], "error": "no whole answer within 1 seconds; mails may have gone out; ask the engine before sending again", "sent_as": "62e8c44b11b0"}');
INSERT INTO "run_steps" VALUES('3bafecbb-3312-496b-80e8-7ebe98e0d9b4','analysis',1,'analysis','completed',1,'2026-11-30T02:42:20.512338+00:00','2026-11-30T02:42:20.898100+00:00',15000,'{"counts": {"leads_analyzed": 5.0, "grade_a": 1.0, "grade_b": 2.0, "grade_c": 2.0}, "result": {"jobId": "job-0014", "status": "completed", "runId": "analysis-0013", "analyzed": 5, "gradeA": 1, "gradeB": 2, "gradeC": 2, "cost": 0.015, "leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('3bafecbb-3312-496b-80e8-7ebe98e0d9b4','prospecting',0,'prospecting','completed',1,'2026-11-30T02:42:20.433046+00:00','2026-11-30T02:42:20.464485+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0012", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('3bafecbb-3312-496b-80e8-7ebe98e0d9b4','sending',2,'sender','running',1,'2026-11-30T02:42:20.983692+00:00',NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null, "sent_as": "27a5e5eb4dda"}');
INSERT INTO "run_steps" VALUES('603d84e8-c0e7-436c-90ce-0fa60750f1d7','analysis',1,'analysis','pending',0,NULL,NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('603d84e8-c0e7-436c-90ce-0fa60750f1d7','prospecting',0,'prospecting','completed',1,'2026-11-30T02:42:02.613804+00:00','2026-11-30T02:42:02.636321+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0007", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('8a5d7bca-eec7-481a-915f-4ce9283f8f85','analysis',1,'analysis','running',1,'2026-11-30T02:42:41.737878+00:00',NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('8a5d7bca-eec7-481a-915f-4ce9283f8f85','prospecting',0,'prospecting','completed',1,'2026-11-30T02:42:41.603238+00:00','2026-11-30T02:42:41.622389+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0018", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('8a5d7bca-eec7-481a-915f-4ce9283f8f85','sending',2,'sender','pending',0,NULL,NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('987e0012-269c-41db-be8d-5152d6f51399','prospecting',0,'prospecting','failed',1,'2026-11-30T02:42:07.707932+00:00','2026-11-30T02:42:07.742399+00:00',1000,'{"counts": {}, "result": null, "warnings": [], "error": "http://127.61.0.1:23010/api/prospect answered 400: no such city"}');
INSERT INTO "run_steps" VALUES('a5cdb233-ac0b-4e1f-bc22-0afb339e947f','analysis',1,'analysis','completed',1,'2026-11-30T02:41:54.042444+00:00','2026-11-30T02:41:54.494324+00:00',15000,'{"counts": {"leads_analyzed": 5.0, "grade_a": 1.0, "grade_b": 2.0, "grade_c": 2.0}, "result": {"jobId": "job-0003", "status": "completed", "runId": "analysis-0002", "analyzed": 5, "gradeA": 1, "gradeB": 2, "gradeC": 2, "cost": 0.015, "leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('a5cdb233-ac0b-4e1f-bc22-0afb339e947f','prospecting',0,'prospecting','completed',1,'2026-11-30T02:41:53.889564+00:00','2026-11-30T02:41:53.947776+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0001", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('a5cdb233-ac0b-4e1f-bc22-0afb339e947f','sending',2,'sender','completed',1,'2026-11-30T02:41:54.572720+00:00','2026-11-30T02:41:54.582741+00:00',0,'{"counts": {"emails_sent": 5.0, "emails_failed": 0.0, "emails_queued": 0.0}, "result": {"sent": 5, "failed": 0, "queued": 0, "cost": 0}, "warnings": [], "error": null, "sent_as": "27a5e5eb4dda"}');
INSERT INTO "run_steps" VALUES('b9c6fb56-b71b-4c63-8803-235860ac4a4a','analysis',1,'analysis','completed',1,'2026-11-30T02:41:59.205678+00:00','2026-11-30T02:41:59.546862+00:00',15000,'{"counts": {"leads_analyzed": 5.0, "grade_a": 1.0, "grade_b": 2.0, "grade_c": 2.0}, "result": {"jobId": "job-0006", "status": "completed", "runId": "analysis-0005", "analyzed": 5, "gradeA": 1, "gradeB": 2, "gradeC": 2, "cost": 0.015, "leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('b9c6fb56-b71b-4c63-8803-235860ac4a4a','prospecting',0,'prospecting','completed',1,'2026-11-30T02:41:59.128377+00:00','2026-11-30T02:41:59.174917+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0004", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('b9c6fb56-b71b-4c63-8803-235860ac4a4a','sending',2,'sender','pending',0,NULL,NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('bb94cc39-7e7c-47fb-870c-2a83c481ed30','analysis',1,'analysis','completed',1,'2026-11-30T02:42:15.812068+00:00','2026-11-30T02:42:16.178224+00:00',15000,'{"counts": {"leads_analyzed": 5.0, "grade_a": 1.0, "grade_b": 2.0, "grade_c": 2.0}, "result": {"jobId": "job-0011", "status": "completed", "runId": "analysis-0010", "analyzed": 5, "gradeA": 1, "gradeB": 2, "gradeC": 2, "cost": 0.015, "leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('bb94cc39-7e7c-47fb-870c-2a83c481ed30','prospecting',0,'prospecting','completed',1,'2026-11-30T02:42:15.737397+00:00','2026-11-30T02:42:15.760821+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0009", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('bb94cc39-7e7c-47fb-870c-2a83c481ed30','sending',2,'sender','completed',1,'2026-11-30T02:42:16.252235+00:00','2026-11-30T02:42:16.284557+00:00',0,'{"counts": {"emails_sent": 5.0, "emails_failed": 0.0, "emails_queued": 0.0}, "result": {"sent": 5, "failed": 0, "queued": 0, "cost": 0}, "warnings": [], "error": null, "sent_as": "27a5e5eb4dda"}');
INSERT INTO "run_steps" VALUES('c0973c6b-7eda-4624-9ac6-59b8867a0708','analysis',1,'analysis','running',1,'2026-11-30T02:42:30.640998+00:00',NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('c0973c6b-7eda-4624-9ac6-59b8867a0708','prospecting',0,'prospecting','completed',1,'2026-11-30T02:42:30.302509+00:00','2026-11-30T02:42:30.356528+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0015", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('c0973c6b-7eda-4624-9ac6-59b8867a0708','sending',2,'sender','pending',0,NULL,NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
CREATE TABLE runs (
    run_id        TEXT PRIMARY KEY,
    run_name      TEXT NOT NULL,
    campaign_key  TEXT NOT NULL,
    campaign_name TEXT NOT NULL,
    status        TEXT NOT NULL,
    state_name    TEXT,
    message       TEXT,
    trigger_type  TEXT NOT NULL,
    started_at    TEXT NOT NULL,
    completed_at  TEXT
) STRICT;
INSERT INTO "runs" VALUES('a5cdb233-ac0b-4e1f-bc22-0afb339e947f','enlightened-hoatzin','upgraded-routine','Upgraded Routine','completed','Completed','3 of 3 steps, 5 prospects generated, 4 prospects verified, 5 leads analyzed, 1 grade A, 2 grade B, 2 grade C, 5 emails sent, cost 0.027 USD.','manual','2026-11-30T02:41:53.548002+00:00','2026-11-30T02:41:54.606942+00:00');
INSERT INTO "runs" VALUES('b9c6fb56-b71b-4c63-8803-235860ac4a4a','effective-bullfrog','upgraded-suspended','Upgraded Suspended','running','Suspended','Step ''sending'' waits for approval: POST http://127.61.0.1:23010/api/send-batch
About to be sent: 5 leads
So far: 5 prospects generated, 4 prospects verified, 5 leads analyzed, 1 grade A, 2 grade B, 2 grade C
With: {"leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}
Approve it by 2026-12-07 02:41 UTC: campaigns approve effective-bullfrog, or Resume in Prefect. When nobody does, the run ends.
2 of 3 steps, 5 prospects generated, 4 prospects verified, 5 leads analyzed, 1 grade A, 2 grade B, 2 grade C, cost 0.027 USD.','manual','2026-11-30T02:41:59.034387+00:00',NULL);
INSERT INTO "runs" VALUES('603d84e8-c0e7-436c-90ce-0fa60750f1d7','romantic-caribou','upgraded-budget','Upgraded Budget','aborted','BudgetExceeded','budget: daily 0.01 reached, spent 0.012; the next step may cost something
The campaign is paused until 2026-11-30 03:00 UTC; raising the limit resumes it at once.
1 of 2 steps, 5 prospects generated, 4 prospects verified, cost 0.012 USD.','manual','2026-11-30T02:42:02.582755+00:00','2026-11-30T02:42:04.024566+00:00');
INSERT INTO "runs" VALUES('987e0012-269c-41db-be8d-5152d6f51399','quiet-binturong','upgraded-failed','Upgraded Failed','failed','Failed','Step ''prospecting'' failed: http://127.61.0.1:23010/api/prospect answered 400: no such city
0 of 1 steps, cost 0.001 USD.','manual','2026-11-30T02:42:07.677858+00:00','2026-11-30T02:42:07.746784+00:00');
INSERT INTO "runs" VALUES('13e556bb-7af2-4d34-95b3-5246f2338877','traditional-mule','upgraded-unconfirmed','Upgraded Unconfirmed','failed','Failed','Step ''prospecting'' failed: no whole answer within 1 seconds; mails may have gone out; ask the engine before sending again
0 of 1 steps, cost 0.25 USD, of which 0.25 USD unconfirmed (1 request).','manual','2026-11-30T02:42:11.567131+00:00','2026-11-30T02:42:12.625187+00:00');
INSERT INTO "runs" VALUES('bb94cc39-7e7c-47fb-870c-2a83c481ed30','humongous-teal','upgraded-routine','Upgraded Routine','completed','Completed','3 of 3 steps, 5 prospects generated, 4 prospects verified, 5 leads analyzed, 1 grade A, 2 grade B, 2 grade C, 5 emails sent, cost 0.027 USD.','manual','2026-11-30T02:42:15.560865+00:00','2026-11-30T02:42:16.320880+00:00');
INSERT INTO "runs" VALUES('3bafecbb-3312-496b-80e8-7ebe98e0d9b4','marvellous-boobook','upgraded-killed-sending','Upgraded Killed Sending','running',NULL,NULL,'manual','2026-11-30T02:42:20.363195+00:00',NULL);
INSERT INTO "runs" VALUES('c0973c6b-7eda-4624-9ac6-59b8867a0708','lovely-caribou','upgraded-killed','Upgraded Killed','running',NULL,NULL,'manual','2026-11-30T02:42:30.289717+00:00',NULL);
INSERT INTO "runs" VALUES('8a5d7bca-eec7-481a-915f-4ce9283f8f85','loutish-hedgehog','upgraded-handed-back','Upgraded Handed Back','running',NULL,NULL,'manual','2026-11-30T02:42:41.563698+00:00',NULL);
CREATE TABLE stop (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    "by"   TEXT NOT NULL,
    reason TEXT NOT NULL,
    since  TEXT NOT NULL
) STRICT;
CREATE TABLE successor (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    -- Names this carrying over, here and in the other store.
    id    TEXT NOT NULL,
    books TEXT NOT NULL,
    at    TEXT NOT NULL
) STRICT;
CREATE TABLE totals (
    campaign_key TEXT NOT NULL,
    window_key   TEXT NOT NULL,
    spent        INTEGER NOT NULL CHECK (spent >= 0),
    reserved     INTEGER NOT NULL CHECK (reserved >= 0),
    PRIMARY KEY (campaign_key, window_key)
) STRICT, WITHOUT ROWID;
INSERT INTO "totals" VALUES('@account','daily:2026-11-30',645000,250000);
INSERT INTO "totals" VALUES('@account','monthly:2026-11-01',645000,250000);
INSERT INTO "totals" VALUES('@account','weekly:2026-11-29',645000,250000);
INSERT INTO "totals" VALUES('upgraded-budget','daily:2026-11-29',12000,0);
INSERT INTO "totals" VALUES('upgraded-budget','monthly:2026-11-01',12000,0);
INSERT INTO "totals" VALUES('upgraded-budget','weekly:2026-11-29',12000,0);
INSERT INTO "totals" VALUES('upgraded-failed','daily:2026-11-30',1000,0);
INSERT INTO "totals" VALUES('upgraded-failed','monthly:2026-11-01',1000,0);
INSERT INTO "totals" VALUES('upgraded-failed','weekly:2026-11-29',1000,0);
INSERT INTO "totals" VALUES('upgraded-handed-back','daily:2026-11-30',262000,0);
INSERT INTO "totals" VALUES('upgraded-handed-back','monthly:2026-11-01',262000,0);
INSERT INTO "totals" VALUES('upgraded-handed-back','weekly:2026-11-29',262000,0);
INSERT INTO "totals" VALUES('upgraded-killed','daily:2026-11-30',12000,250000);
INSERT INTO "totals" VALUES('upgraded-killed','monthly:2026-11-01',12000,250000);
INSERT INTO "totals" VALUES('upgraded-killed','weekly:2026-11-29',12000,250000);
INSERT INTO "totals" VALUES('upgraded-killed-sending','daily:2026-11-30',27000,0);
INSERT INTO "totals" VALUES('upgraded-killed-sending','monthly:2026-11-01',27000,0);
INSERT INTO "totals" VALUES('upgraded-killed-sending','weekly:2026-11-29',27000,0);
INSERT INTO "totals" VALUES('upgraded-routine','daily:2026-11-29',54000,0);
INSERT INTO "totals" VALUES('upgraded-routine','monthly:2026-11-01',54000,0);
INSERT INTO "totals" VALUES('upgraded-routine','weekly:2026-11-29',54000,0);
INSERT INTO "totals" VALUES('upgraded-suspended','daily:2026-11-30',27000,0);
INSERT INTO "totals" VALUES('upgraded-suspended','monthly:2026-11-01',27000,0);
INSERT INTO "totals" VALUES('upgraded-suspended','weekly:2026-11-29',27000,0);
INSERT INTO "totals" VALUES('upgraded-unconfirmed','daily:2026-11-30',250000,0);
INSERT INTO "totals" VALUES('upgraded-unconfirmed','monthly:2026-11-01',250000,0);
INSERT INTO "totals" VALUES('upgraded-unconfirmed','weekly:2026-11-29',250000,0);
CREATE INDEX runs_of_campaign ON runs (campaign_key, started_at);
CREATE INDEX open_reservations ON reservations (expires_at) WHERE state IN ('held', 'sent');
CREATE INDEX unconfirmed_reservations ON reservations (campaign_key, id) WHERE state = 'unconfirmed';
CREATE INDEX paid_reservations ON reservations (campaign_key, step, id, booked) WHERE booked > 0;
CREATE INDEX free_reservations ON reservations (campaign_key, step) WHERE state = 'settled' AND booked = 0;
CREATE INDEX ledger_of_run ON ledger (run_id, spent);
CREATE INDEX ledger_of_campaign ON ledger (campaign_key);
CREATE TRIGGER ledger_is_never_updated BEFORE UPDATE ON ledger
BEGIN
    SELECT RAISE (ABORT, 'the ledger is append-only');
END;
CREATE TRIGGER ledger_is_never_deleted_from BEFORE DELETE ON ledger
BEGIN
    SELECT RAISE (ABORT, 'the ledger is append-only');
END;
CREATE TRIGGER ledger_is_never_replaced BEFORE INSERT ON ledger
WHEN EXISTS (SELECT 1 FROM ledger WHERE id = NEW.id)
BEGIN
    SELECT RAISE (ABORT, 'the ledger is append-only');
END;
CREATE TRIGGER closed_ledger_takes_no_line BEFORE INSERT ON ledger
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_books_reserve_nothing BEFORE INSERT ON reservations
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_reservations_stay BEFORE UPDATE ON reservations
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_books_give_no_first_lease BEFORE INSERT ON leases
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_books_give_no_lease BEFORE UPDATE ON leases
WHEN NEW.holder IS NOT NULL AND EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_books_take_no_limits BEFORE INSERT ON account_budget
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_books_take_no_run BEFORE INSERT ON runs
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_books_take_no_campaign BEFORE INSERT ON campaigns
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_campaigns_stay BEFORE UPDATE ON campaigns
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_campaigns_are_not_deleted BEFORE DELETE ON campaigns
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE INDEX begun_runs ON runs (campaign_key, started_at, state_name) WHERE state_name IS NOT 'Skipped';
CREATE TRIGGER closed_books_take_no_stop BEFORE INSERT ON stop
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_books_end_no_stop BEFORE DELETE ON stop
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE INDEX approvals_of_campaign ON approvals (campaign_key, asked_at);
CREATE INDEX waiting_approvals ON approvals (asked_at) WHERE state = 'waiting';
CREATE TRIGGER what_is_approved_stays BEFORE UPDATE ON approvals
WHEN OLD.state = 'approved' AND NEW.state <> 'waiting'
BEGIN
    SELECT RAISE (ABORT, 'what is approved stays approved, until it is asked for anew');
END;
CREATE TRIGGER closed_books_ask_nobody BEFORE INSERT ON approvals
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE TRIGGER closed_approvals_stay BEFORE UPDATE ON approvals
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_of_campaign ON audit (campaign_key, at);
CREATE TRIGGER audit_is_never_updated BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_is_never_deleted_from BEFORE DELETE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_is_never_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;
CREATE TRIGGER closed_audit_takes_no_line BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
CREATE INDEX running_runs ON runs (started_at) WHERE status = 'running';
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('ledger',34);
INSERT INTO "sqlite_sequence" VALUES('audit',21);
COMMIT;
