-- Version 3: books that were carried over to another store are closed, in every process that has the file open.
--
-- Reading goes on, and so does what ends: a lease may be given back, a queue be left.

CREATE TABLE successor (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    -- Names this carrying over, here and in the other store.
    id    TEXT NOT NULL,
    books TEXT NOT NULL,
    at    TEXT NOT NULL
) STRICT;

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
