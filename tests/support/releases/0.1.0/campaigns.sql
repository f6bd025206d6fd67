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
INSERT INTO "alerts" VALUES('upgraded-budget','campaign daily:2026-11-29 0.8','2026-11-30T02:24:58.240925+00:00','2026-11-30T02:24:58.271130+00:00');
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
INSERT INTO "approvals" VALUES(1,'upgraded-suspended','bb30513b-a88d-408e-8c8d-04c017607e04','sending','waiting','2026-11-30T02:24:54.383228+00:00','2026-12-07T02:24:54.383228+00:00',NULL,NULL);
CREATE TABLE audit (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    at           TEXT NOT NULL,
    actor        TEXT NOT NULL,
    action       TEXT NOT NULL,
    campaign_key TEXT,
    detail       TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;
INSERT INTO "audit" VALUES(1,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-budget','{"version": "517b686c8c50", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(2,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-failed','{"version": "24c0872697a0", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(3,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-handed-back','{"version": "3b799fc1814c", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(4,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-killed-sending','{"version": "fc1784b62d39", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(5,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-killed','{"version": "a697a0ce907c", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(6,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-paused','{"version": "68648c130d9f", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(7,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-routine','{"version": "438440805057", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(8,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-scheduled','{"version": "a8fdff6488db", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(9,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-suspended','{"version": "fd661124d415", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(10,'2026-11-30T02:24:36.267930+00:00','root@vm','campaign.created','upgraded-unconfirmed','{"version": "ffebb4a86079", "origin": "@HOST@:@ROOT@/my-campaigns", "fields": []}');
INSERT INTO "audit" VALUES(11,'2026-11-30T02:24:39.893484+00:00','root@vm','account.limited',NULL,'{"daily": "50.00", "weekly": null, "monthly": "500.00", "timezone": "UTC"}');
INSERT INTO "audit" VALUES(12,'2026-11-30T02:24:43.200378+00:00','root@vm','campaign.paused','upgraded-paused','{"reason": "holidays"}');
INSERT INTO "audit" VALUES(13,'2026-11-30T02:24:47.615582+00:00','root@vm','run.started','upgraded-routine','{"run": "beryl-bullmastiff", "runId": "e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7"}');
INSERT INTO "audit" VALUES(14,'2026-11-30T02:24:53.353578+00:00','root@vm','run.started','upgraded-suspended','{"run": "wealthy-ara", "runId": "bb30513b-a88d-408e-8c8d-04c017607e04"}');
INSERT INTO "audit" VALUES(15,'2026-11-30T02:24:57.683710+00:00','root@vm','run.started','upgraded-budget','{"run": "logical-shrimp", "runId": "3bb358ae-5997-4684-a314-9f03f2135464"}');
INSERT INTO "audit" VALUES(16,'2026-11-30T02:25:04.092401+00:00','root@vm','run.started','upgraded-failed','{"run": "acrid-bat", "runId": "e5cf24b3-51f8-459a-894d-cf05eee739b7"}');
INSERT INTO "audit" VALUES(17,'2026-11-30T02:25:09.746099+00:00','root@vm','run.started','upgraded-unconfirmed','{"run": "optimistic-weasel", "runId": "2ac50d6c-0915-4465-ba00-cf22fa5fe17f"}');
INSERT INTO "audit" VALUES(18,'2026-11-30T02:25:16.450866+00:00','root@vm','run.started','upgraded-routine','{"run": "persimmon-flounder", "runId": "179187b7-a995-4dad-907b-c240136e6a11"}');
INSERT INTO "audit" VALUES(19,'2026-11-30T02:25:24.065974+00:00','root@vm','run.started','upgraded-killed-sending','{"run": "artificial-tuatara", "runId": "c87dade8-de94-44a8-a278-4e413f32e186"}');
INSERT INTO "audit" VALUES(20,'2026-11-30T02:25:30.783342+00:00','root@vm','run.started','upgraded-killed','{"run": "ginger-starling", "runId": "536b82fa-ed17-4b97-ba4f-b400fcd2a2fb"}');
INSERT INTO "audit" VALUES(21,'2026-11-30T02:25:45.531688+00:00','root@vm','run.started','upgraded-handed-back','{"run": "truthful-mink", "runId": "44b523ac-e8f2-499f-8f53-4d669fbbe310"}');
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
INSERT INTO "campaigns" VALUES('upgraded-budget','8c17b80a-3ab9-4ed3-a34f-a9fd9a4eda33','Upgraded Budget','{"name":"Upgraded Budget","description":null,"schedule":{"cron":"0 9 1 1 *","timezone":"Etc/GMT+3","enabled":true,"overlap":"queue"},"budget":{"daily":"0.01","weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','2553ab97-3d64-44fe-b268-5b964aa9a6c4',1,'budget','budget: daily 0.01 reached, spent 0.012','2026-11-30T02:24:58.320002+00:00','2026-11-30T03:00:00.000000+00:00','01a22a45-12b4-746e-a9dc-0b7589a3e5b0','2026-11-30T02:24:35.583980+00:00','2026-11-30T02:24:35.746355+00:00');
INSERT INTO "campaigns" VALUES('upgraded-failed','daf3d084-d9a6-4e2e-b3c2-9cfaa680ec08','Upgraded Failed','{"name":"Upgraded Failed","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','e68f1bf2-6926-448f-845f-7b4453e000b4',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:24:35.585607+00:00','2026-11-30T02:24:36.035718+00:00');
INSERT INTO "campaigns" VALUES('upgraded-handed-back','5f8c0172-f6a6-436e-bb87-66bf4d7e7958','Upgraded Handed Back','{"name":"Upgraded Handed Back","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.25","costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','9eeef73b-8b86-448b-a696-2796bb8df2e4',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:24:35.587135+00:00','2026-11-30T02:24:35.835308+00:00');
INSERT INTO "campaigns" VALUES('upgraded-killed-sending','655bf2f4-f1c7-4ebd-84b3-e767ebcaf01f','Upgraded Killed Sending','{"name":"Upgraded Killed Sending","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','4e01e392-b5a3-4f4a-ab01-4b6de7211d12',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:24:35.587874+00:00','2026-11-30T02:24:35.791287+00:00');
INSERT INTO "campaigns" VALUES('upgraded-killed','4afbb0e6-4054-46e7-82b6-4ad3c084bdc3','Upgraded Killed','{"name":"Upgraded Killed","description":null,"schedule":null,"budget":{"daily":"5.00","weekly":"20.00","monthly":"80.00","perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.25","costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','e3565015-159a-4385-8573-e3d5139f0be2',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:24:35.588655+00:00','2026-11-30T02:24:36.153152+00:00');
INSERT INTO "campaigns" VALUES('upgraded-paused','908fdef5-cebe-46c3-ae48-52ce8515e779','Upgraded Paused','{"name":"Upgraded Paused","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','f0795bb0-820d-4d76-be1f-fdeb7db5f497',0,'person','holidays','2026-11-30T02:24:42.989690+00:00',NULL,NULL,'2026-11-30T02:24:35.589399+00:00','2026-11-30T02:24:35.870071+00:00');
INSERT INTO "campaigns" VALUES('upgraded-routine','fd196041-b92a-4d62-afcc-0dff574d24a4','Upgraded Routine','{"name":"Upgraded Routine","description":null,"schedule":{"cron":"0 9 1 1 *","timezone":"America/New_York","enabled":true,"overlap":"queue"},"budget":{"daily":"5.00","weekly":"20.00","monthly":"80.00","perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{"Authorization":"Bearer {{ secret.campaigns-header-upgraded-routine-prospecting-authorization-c53808b39232 }}"},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','a697edc1-7e93-498e-9397-354b32636ee3',1,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:24:35.590066+00:00','2026-11-30T02:24:35.909496+00:00');
INSERT INTO "campaigns" VALUES('upgraded-scheduled','910af9ca-3cb3-4e28-a9c3-7fbc99b8f8b9','Upgraded Scheduled','{"name":"Upgraded Scheduled","description":null,"schedule":null,"budget":{"daily":"5.00","weekly":"20.00","monthly":"80.00","perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','4115b9e8-242e-4813-a828-c98cad2b08dc',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:24:35.591012+00:00','2026-11-30T02:24:36.265821+00:00');
INSERT INTO "campaigns" VALUES('upgraded-suspended','fb155a60-526b-4bbf-b54b-e1438719ba43','Upgraded Suspended','{"name":"Upgraded Suspended","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"analysis","engine":"analysis","endpoint":"http://127.61.0.1:23010/api/analyze","method":"POST","params":{"runId":"{{ steps.prospecting.runId }}","prospects":"{{ steps.prospecting.prospects }}"},"headers":{},"approval":null,"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":null,"costPath":null},{"name":"sending","engine":"sender","endpoint":"http://127.61.0.1:23010/api/send-batch","method":"POST","params":{"leads":"{{ steps.analysis.leads }}"},"headers":{},"approval":{"timeout":604800000,"onTimeout":"abort"},"timeout":null,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":null,"estimatedCost":"0.00","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','29512ea2-b99a-4f66-991b-da856870a6a7',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:24:35.755342+00:00','2026-11-30T02:24:35.940937+00:00');
INSERT INTO "campaigns" VALUES('upgraded-unconfirmed','9a0cf9d8-2965-4b02-91ce-e10698b23dbe','Upgraded Unconfirmed','{"name":"Upgraded Unconfirmed","description":null,"schedule":null,"budget":{"daily":null,"weekly":null,"monthly":null,"perRun":null,"perLead":null,"alertAt":[0.8]},"steps":[{"name":"prospecting","engine":"prospecting","endpoint":"http://127.61.0.1:23010/api/prospect","method":"POST","params":{"count":5},"headers":{},"approval":null,"timeout":1000,"retry":null,"onSuccess":"continue","onFailure":"abort","sends":true,"estimatedCost":"0.25","costPath":null}],"notifications":{"onComplete":{"email":["done@example.com"],"slack":null},"onFailure":{"email":["ops@example.com"],"slack":null},"onBudget":null,"onApproval":null},"metadata":{}}','@HOST@:@ROOT@/my-campaigns','b32c2ed6-0dbd-49a9-bdcf-33cc1925f2df',0,NULL,NULL,NULL,NULL,NULL,'2026-11-30T02:24:35.799682+00:00','2026-11-30T02:24:35.987483+00:00');
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
INSERT INTO "leases" VALUES('upgraded-killed-sending',1,'c87dade8-de94-44a8-a278-4e413f32e186','artificial-tuatara','2dd25fbf1b77434ab09ff00f173b4f28','2026-11-30T02:26:24.265475+00:00');
INSERT INTO "leases" VALUES('upgraded-killed',1,'536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','ginger-starling','c1f5802e16644346aeda67970bf1efca','2026-11-30T02:26:31.357452+00:00');
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
INSERT INTO "ledger" VALUES(1,'2026-11-30T02:24:49.031142+00:00','upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','prospecting',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(2,'2026-11-30T02:24:49.082054+00:00','upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','prospecting',1,'settle',12000,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(3,'2026-11-30T02:24:49.122244+00:00','upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','analysis',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(4,'2026-11-30T02:24:49.470127+00:00','upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','analysis',1,'settle',15000,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(5,'2026-11-30T02:24:49.506742+00:00','upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','sending',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(6,'2026-11-30T02:24:49.523540+00:00','upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','sending',1,'settle',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(7,'2026-11-30T02:24:53.776121+00:00','upgraded-suspended','bb30513b-a88d-408e-8c8d-04c017607e04','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(8,'2026-11-30T02:24:53.853206+00:00','upgraded-suspended','bb30513b-a88d-408e-8c8d-04c017607e04','prospecting',1,'settle',12000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(9,'2026-11-30T02:24:53.873519+00:00','upgraded-suspended','bb30513b-a88d-408e-8c8d-04c017607e04','analysis',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(10,'2026-11-30T02:24:54.354408+00:00','upgraded-suspended','bb30513b-a88d-408e-8c8d-04c017607e04','analysis',1,'settle',15000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(11,'2026-11-30T02:24:58.067666+00:00','upgraded-budget','3bb358ae-5997-4684-a314-9f03f2135464','prospecting',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(12,'2026-11-30T02:24:58.153821+00:00','upgraded-budget','3bb358ae-5997-4684-a314-9f03f2135464','prospecting',1,'settle',12000,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(13,'2026-11-30T02:25:04.349687+00:00','upgraded-failed','e5cf24b3-51f8-459a-894d-cf05eee739b7','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(14,'2026-11-30T02:25:04.366016+00:00','upgraded-failed','e5cf24b3-51f8-459a-894d-cf05eee739b7','prospecting',1,'settle',1000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(15,'2026-11-30T02:25:09.982462+00:00','upgraded-unconfirmed','2ac50d6c-0915-4465-ba00-cf22fa5fe17f','prospecting',1,'reserve',0,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(16,'2026-11-30T02:25:10.978290+00:00','upgraded-unconfirmed','2ac50d6c-0915-4465-ba00-cf22fa5fe17f','prospecting',1,'unconfirmed',250000,-250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(17,'2026-11-30T02:25:16.844506+00:00','upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','prospecting',1,'reserve',0,12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(18,'2026-11-30T02:25:16.886112+00:00','upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','prospecting',1,'settle',12000,-12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(19,'2026-11-30T02:25:16.917751+00:00','upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','analysis',1,'reserve',0,15000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(20,'2026-11-30T02:25:17.279036+00:00','upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','analysis',1,'settle',15000,-15000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(21,'2026-11-30T02:25:17.328135+00:00','upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','sending',1,'reserve',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(22,'2026-11-30T02:25:17.344830+00:00','upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','sending',1,'settle',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(23,'2026-11-30T02:25:24.302185+00:00','upgraded-killed-sending','c87dade8-de94-44a8-a278-4e413f32e186','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(24,'2026-11-30T02:25:24.441849+00:00','upgraded-killed-sending','c87dade8-de94-44a8-a278-4e413f32e186','prospecting',1,'settle',12000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(25,'2026-11-30T02:25:24.492038+00:00','upgraded-killed-sending','c87dade8-de94-44a8-a278-4e413f32e186','analysis',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(26,'2026-11-30T02:25:24.931003+00:00','upgraded-killed-sending','c87dade8-de94-44a8-a278-4e413f32e186','analysis',1,'settle',15000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(27,'2026-11-30T02:25:25.061925+00:00','upgraded-killed-sending','c87dade8-de94-44a8-a278-4e413f32e186','sending',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(28,'2026-11-30T02:25:31.403126+00:00','upgraded-killed','536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(29,'2026-11-30T02:25:31.446150+00:00','upgraded-killed','536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','prospecting',1,'settle',12000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(30,'2026-11-30T02:25:31.701008+00:00','upgraded-killed','536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','analysis',1,'reserve',0,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(31,'2026-11-30T02:25:46.711260+00:00','upgraded-handed-back','44b523ac-e8f2-499f-8f53-4d669fbbe310','prospecting',1,'reserve',0,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(32,'2026-11-30T02:25:46.803742+00:00','upgraded-handed-back','44b523ac-e8f2-499f-8f53-4d669fbbe310','prospecting',1,'settle',12000,0,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(33,'2026-11-30T02:25:46.874008+00:00','upgraded-handed-back','44b523ac-e8f2-499f-8f53-4d669fbbe310','analysis',1,'reserve',0,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
INSERT INTO "ledger" VALUES(34,'2026-11-30T02:25:49.097154+00:00','upgraded-handed-back','44b523ac-e8f2-499f-8f53-4d669fbbe310','analysis',1,'unconfirmed',250000,-250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30',NULL,NULL);
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
INSERT INTO "reservations" VALUES(1,'upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','prospecting',1,'settled',0,12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:24:49.031142+00:00','2026-11-30T02:30:49.031142+00:00');
INSERT INTO "reservations" VALUES(2,'upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','analysis',1,'settled',0,15000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:24:49.122244+00:00','2026-11-30T02:35:49.122244+00:00');
INSERT INTO "reservations" VALUES(3,'upgraded-routine','e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','sending',1,'settled',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:24:49.506742+00:00','2026-11-30T02:35:49.506742+00:00');
INSERT INTO "reservations" VALUES(4,'upgraded-suspended','bb30513b-a88d-408e-8c8d-04c017607e04','prospecting',1,'settled',0,12000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:24:53.776121+00:00','2026-11-30T02:30:53.776121+00:00');
INSERT INTO "reservations" VALUES(5,'upgraded-suspended','bb30513b-a88d-408e-8c8d-04c017607e04','analysis',1,'settled',0,15000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:24:53.873519+00:00','2026-11-30T02:35:53.873519+00:00');
INSERT INTO "reservations" VALUES(6,'upgraded-budget','3bb358ae-5997-4684-a314-9f03f2135464','prospecting',1,'settled',0,12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:24:58.067666+00:00','2026-11-30T02:30:58.067666+00:00');
INSERT INTO "reservations" VALUES(7,'upgraded-failed','e5cf24b3-51f8-459a-894d-cf05eee739b7','prospecting',1,'settled',0,1000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:04.349687+00:00','2026-11-30T02:31:04.349687+00:00');
INSERT INTO "reservations" VALUES(8,'upgraded-unconfirmed','2ac50d6c-0915-4465-ba00-cf22fa5fe17f','prospecting',1,'unconfirmed',250000,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:09.982462+00:00','2026-11-30T02:26:10.982462+00:00');
INSERT INTO "reservations" VALUES(9,'upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','prospecting',1,'settled',12000,12000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:16.844506+00:00','2026-11-30T02:31:16.844506+00:00');
INSERT INTO "reservations" VALUES(10,'upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','analysis',1,'settled',15000,15000,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:16.917751+00:00','2026-11-30T02:36:16.917751+00:00');
INSERT INTO "reservations" VALUES(11,'upgraded-routine','179187b7-a995-4dad-907b-c240136e6a11','sending',1,'settled',0,0,'daily:2026-11-29','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:17.328135+00:00','2026-11-30T02:36:17.328135+00:00');
INSERT INTO "reservations" VALUES(12,'upgraded-killed-sending','c87dade8-de94-44a8-a278-4e413f32e186','prospecting',1,'settled',0,12000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:24.302185+00:00','2026-11-30T02:31:24.302185+00:00');
INSERT INTO "reservations" VALUES(13,'upgraded-killed-sending','c87dade8-de94-44a8-a278-4e413f32e186','analysis',1,'settled',0,15000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:24.492038+00:00','2026-11-30T02:36:24.492038+00:00');
INSERT INTO "reservations" VALUES(14,'upgraded-killed-sending','c87dade8-de94-44a8-a278-4e413f32e186','sending',1,'sent',0,NULL,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:25.061925+00:00','2026-11-30T02:36:25.061925+00:00');
INSERT INTO "reservations" VALUES(15,'upgraded-killed','536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','prospecting',1,'settled',0,12000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:31.403126+00:00','2026-11-30T02:31:31.403126+00:00');
INSERT INTO "reservations" VALUES(16,'upgraded-killed','536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','analysis',1,'sent',250000,NULL,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:31.701008+00:00','2026-11-30T02:36:31.701008+00:00');
INSERT INTO "reservations" VALUES(17,'upgraded-handed-back','44b523ac-e8f2-499f-8f53-4d669fbbe310','prospecting',1,'settled',0,12000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:46.711260+00:00','2026-11-30T02:31:46.711260+00:00');
INSERT INTO "reservations" VALUES(18,'upgraded-handed-back','44b523ac-e8f2-499f-8f53-4d669fbbe310','analysis',1,'unconfirmed',250000,250000,'daily:2026-11-30','weekly:2026-11-29','monthly:2026-11-01','2026-11-30','2026-11-30T02:25:46.874008+00:00','2026-11-30T02:36:46.874008+00:00');
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
INSERT INTO "run_steps" VALUES('179187b7-a995-4dad-907b-c240136e6a11','analysis',1,'analysis','completed',1,'2026-11-30T02:25:16.920262+00:00','2026-11-30T02:25:17.274163+00:00',15000,'{"counts": {"leads_analyzed": 5.0, "grade_a": 1.0, "grade_b": 2.0, "grade_c": 2.0}, "result": {"jobId": "job-0011", "status": "completed", "runId": "analysis-0010", "analyzed": 5, "gradeA": 1, "gradeB": 2, "gradeC": 2, "cost": 0.015, "leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('179187b7-a995-4dad-907b-c240136e6a11','prospecting',0,'prospecting','completed',1,'2026-11-30T02:25:16.853709+00:00','2026-11-30T02:25:16.877098+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0009", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('179187b7-a995-4dad-907b-c240136e6a11','sending',2,'sender','completed',1,'2026-11-30T02:25:17.329760+00:00','2026-11-30T02:25:17.337773+00:00',0,'{"counts": {"emails_sent": 5.0, "emails_failed": 0.0, "emails_queued": 0.0}, "result": {"sent": 5, "failed": 0, "queued": 0, "cost": 0}, "warnings": [], "error": null, "sent_as": "27a5e5eb4dda"}');
INSERT INTO "run_steps" VALUES('2ac50d6c-0915-4465-ba00-cf22fa5fe17f','prospecting',0,'prospecting','failed',1,'2026-11-30T02:25:09.986044+00:00','2026-11-30T02:25:11.021690+00:00',250000,'{"counts": {}, "result": null, "warnings": [], "error": "no whole answer within 1 seconds; mails may have gone out; ask the engine before sending again", "sent_as": "62e8c44b11b0"}');
INSERT INTO "run_steps" VALUES('3bb358ae-5997-4684-a314-9f03f2135464','analysis',1,'analysis','pending',0,NULL,NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('3bb358ae-5997-4684-a314-9f03f2135464','prospecting',0,'prospecting','completed',1,'2026-11-30T02:24:58.097740+00:00','2026-11-30T02:24:58.142413+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0007", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('44b523ac-e8f2-499f-8f53-4d669fbbe310','analysis',1,'analysis','running',1,'2026-11-30T02:25:46.896528+00:00',NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('44b523ac-e8f2-499f-8f53-4d669fbbe310','prospecting',0,'prospecting','completed',1,'2026-11-30T02:25:46.743628+00:00','2026-11-30T02:25:46.780130+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0018", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('44b523ac-e8f2-499f-8f53-4d669fbbe310','sending',2,'sender','pending',0,NULL,NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','analysis',1,'analysis','running',1,'2026-11-30T02:25:31.713621+00:00',NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','prospecting',0,'prospecting','completed',1,'2026-11-30T02:25:31.404977+00:00','2026-11-30T02:25:31.436159+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0015", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','sending',2,'sender','pending',0,NULL,NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('bb30513b-a88d-408e-8c8d-04c017607e04','analysis',1,'analysis','completed',1,'2026-11-30T02:24:53.920476+00:00','2026-11-30T02:24:54.351081+00:00',15000,'{"counts": {"leads_analyzed": 5.0, "grade_a": 1.0, "grade_b": 2.0, "grade_c": 2.0}, "result": {"jobId": "job-0006", "status": "completed", "runId": "analysis-0005", "analyzed": 5, "gradeA": 1, "gradeB": 2, "gradeC": 2, "cost": 0.015, "leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('bb30513b-a88d-408e-8c8d-04c017607e04','prospecting',0,'prospecting','completed',1,'2026-11-30T02:24:53.780098+00:00','2026-11-30T02:24:53.818863+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0004", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('bb30513b-a88d-408e-8c8d-04c017607e04','sending',2,'sender','pending',0,NULL,NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('c87dade8-de94-44a8-a278-4e413f32e186','analysis',1,'analysis','completed',1,'2026-11-30T02:25:24.494227+00:00','2026-11-30T02:25:24.910275+00:00',15000,'{"counts": {"leads_analyzed": 5.0, "grade_a": 1.0, "grade_b": 2.0, "grade_c": 2.0}, "result": {"jobId": "job-0014", "status": "completed", "runId": "analysis-0013", "analyzed": 5, "gradeA": 1, "gradeB": 2, "gradeC": 2, "cost": 0.015, "leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('c87dade8-de94-44a8-a278-4e413f32e186','prospecting',0,'prospecting','completed',1,'2026-11-30T02:25:24.305508+00:00','2026-11-30T02:25:24.419619+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0012", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('c87dade8-de94-44a8-a278-4e413f32e186','sending',2,'sender','running',1,'2026-11-30T02:25:25.083853+00:00',NULL,NULL,'{"counts": {}, "result": null, "warnings": [], "error": null, "sent_as": "27a5e5eb4dda"}');
INSERT INTO "run_steps" VALUES('e5cf24b3-51f8-459a-894d-cf05eee739b7','prospecting',0,'prospecting','failed',1,'2026-11-30T02:25:04.352034+00:00','2026-11-30T02:25:04.381821+00:00',1000,'{"counts": {}, "result": null, "warnings": [], "error": "http://127.61.0.1:23010/api/prospect answered 400: no such city"}');
INSERT INTO "run_steps" VALUES('e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','analysis',1,'analysis','completed',1,'2026-11-30T02:24:49.124517+00:00','2026-11-30T02:24:49.465688+00:00',15000,'{"counts": {"leads_analyzed": 5.0, "grade_a": 1.0, "grade_b": 2.0, "grade_c": 2.0}, "result": {"jobId": "job-0003", "status": "completed", "runId": "analysis-0002", "analyzed": 5, "gradeA": 1, "gradeB": 2, "gradeC": 2, "cost": 0.015, "leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','prospecting',0,'prospecting','completed',1,'2026-11-30T02:24:49.033189+00:00','2026-11-30T02:24:49.065708+00:00',12000,'{"counts": {"prospects_generated": 5.0, "prospects_verified": 4.0}, "result": {"runId": "run-0001", "found": 5, "verified": 4, "cost": 0.012, "prospects": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "verified": true}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "verified": true}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "verified": true}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "verified": true}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "verified": false}]}, "warnings": [], "error": null}');
INSERT INTO "run_steps" VALUES('e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','sending',2,'sender','completed',1,'2026-11-30T02:24:49.509876+00:00','2026-11-30T02:24:49.518669+00:00',0,'{"counts": {"emails_sent": 5.0, "emails_failed": 0.0, "emails_queued": 0.0}, "result": {"sent": 5, "failed": 0, "queued": 0, "cost": 0}, "warnings": [], "error": null, "sent_as": "27a5e5eb4dda"}');
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
INSERT INTO "runs" VALUES('e70f8bb0-92e0-4ccd-9465-e5a8ae1f2eb7','beryl-bullmastiff','upgraded-routine','Upgraded Routine','completed','Completed','3 of 3 steps, 5 prospects generated, 4 prospects verified, 5 leads analyzed, 1 grade A, 2 grade B, 2 grade C, 5 emails sent, cost 0.027 USD.','manual','2026-11-30T02:24:48.848959+00:00','2026-11-30T02:24:49.538612+00:00');
INSERT INTO "runs" VALUES('bb30513b-a88d-408e-8c8d-04c017607e04','wealthy-ara','upgraded-suspended','Upgraded Suspended','running','Suspended','Step ''sending'' waits for approval: POST http://127.61.0.1:23010/api/send-batch
About to be sent: 5 leads
So far: 5 prospects generated, 4 prospects verified, 5 leads analyzed, 1 grade A, 2 grade B, 2 grade C
With: {"leads": [{"company": "Blue Door Bistro", "email": "hello@blue-door-bistro.example", "grade": "A"}, {"company": "Harbor Light Diner", "email": "hello@harbor-light-diner.example", "grade": "B"}, {"company": "Casa Marisol", "email": "hello@casa-marisol.example", "grade": "B"}, {"company": "The Copper Ladle", "email": "hello@the-copper-ladle.example", "grade": "C"}, {"company": "Green Fork Kitchen", "email": "hello@green-fork-kitchen.example", "grade": "C"}]}
Approve it by 2026-12-07 02:24 UTC: campaigns approve wealthy-ara, or Resume in Prefect. When nobody does, the run ends.
2 of 3 steps, 5 prospects generated, 4 prospects verified, 5 leads analyzed, 1 grade A, 2 grade B, 2 grade C, cost 0.027 USD.','manual','2026-11-30T02:24:53.678298+00:00',NULL);
INSERT INTO "runs" VALUES('3bb358ae-5997-4684-a314-9f03f2135464','logical-shrimp','upgraded-budget','Upgraded Budget','aborted','BudgetExceeded','budget: daily 0.01 reached, spent 0.012; the next step may cost something
The campaign is paused until 2026-11-30 03:00 UTC; raising the limit resumes it at once.
1 of 2 steps, 5 prospects generated, 4 prospects verified, cost 0.012 USD.','manual','2026-11-30T02:24:58.006135+00:00','2026-11-30T02:24:59.626852+00:00');
INSERT INTO "runs" VALUES('e5cf24b3-51f8-459a-894d-cf05eee739b7','acrid-bat','upgraded-failed','Upgraded Failed','failed','Failed','Step ''prospecting'' failed: http://127.61.0.1:23010/api/prospect answered 400: no such city
0 of 1 steps, cost 0.001 USD.','manual','2026-11-30T02:25:04.331093+00:00','2026-11-30T02:25:04.383384+00:00');
INSERT INTO "runs" VALUES('2ac50d6c-0915-4465-ba00-cf22fa5fe17f','optimistic-weasel','upgraded-unconfirmed','Upgraded Unconfirmed','failed','Failed','Step ''prospecting'' failed: no whole answer within 1 seconds; mails may have gone out; ask the engine before sending again
0 of 1 steps, cost 0.25 USD, of which 0.25 USD unconfirmed (1 request).','manual','2026-11-30T02:25:09.958773+00:00','2026-11-30T02:25:11.025040+00:00');
INSERT INTO "runs" VALUES('179187b7-a995-4dad-907b-c240136e6a11','persimmon-flounder','upgraded-routine','Upgraded Routine','completed','Completed','3 of 3 steps, 5 prospects generated, 4 prospects verified, 5 leads analyzed, 1 grade A, 2 grade B, 2 grade C, 5 emails sent, cost 0.027 USD.','manual','2026-11-30T02:25:16.654017+00:00','2026-11-30T02:25:17.376836+00:00');
INSERT INTO "runs" VALUES('c87dade8-de94-44a8-a278-4e413f32e186','artificial-tuatara','upgraded-killed-sending','Upgraded Killed Sending','running',NULL,NULL,'manual','2026-11-30T02:25:24.277820+00:00',NULL);
INSERT INTO "runs" VALUES('536b82fa-ed17-4b97-ba4f-b400fcd2a2fb','ginger-starling','upgraded-killed','Upgraded Killed','running',NULL,NULL,'manual','2026-11-30T02:25:31.377154+00:00',NULL);
INSERT INTO "runs" VALUES('44b523ac-e8f2-499f-8f53-4d669fbbe310','truthful-mink','upgraded-handed-back','Upgraded Handed Back','running',NULL,NULL,'manual','2026-11-30T02:25:46.587059+00:00',NULL);
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
