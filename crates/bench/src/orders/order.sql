-- One order: what the services send for it, a transaction here for each commit there, statement by statement. Each
-- service's tables are in a schema of its name. `id` makes uuids that grow with time, as the services' do.
\set order :order + 1000
\set n :order + :client_id
\set placed :n * 2
\set completed :n * 2 + 1
\set product random(1, 3)

-- order: the copies of customer and product are read.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT name, version FROM shop_order.users WHERE user_id = id(:client_id);
SELECT name, amount, currency, version FROM shop_order.products WHERE product_id = id(:product);
ROLLBACK;

-- order: placed.
BEGIN;
INSERT INTO shop_order.idempotency (caller, key, fingerprint, created_at) VALUES (id(:client_id)::text, id(:n)::text, repeat('f', 32)::bytea, now())
    ON CONFLICT (caller, key) DO UPDATE SET fingerprint = excluded.fingerprint, response = NULL, created_at = excluded.created_at
    WHERE idempotency.created_at < now() - interval '24 hours';
INSERT INTO shop_order.orders (order_id, customer_id, customer_name, total, currency, state, version, created_at, updated_at)
    VALUES (id(:n), id(:client_id), 'Bench', 2490, 'EUR', 'started', 1, now(), now());
INSERT INTO shop_order.order_lines (order_id, line, product_id, product_name, quantity, amount) VALUES (id(:n), 0, id(:product), 'Teapot', 1, 2490);
INSERT INTO shop_order.sagas (saga_id, kind, version, phase, step, uncertain, parked, attempt, data, traceparent, owner, epoch, due_at, started_at, step_since, updated_at)
    VALUES (id(:n), 'order', 1, 'started', 0, false, false, 0, jsonb_build_object('customer', id(:client_id), 'lines', jsonb_build_array(jsonb_build_array(id(:product), 1)), 'total', jsonb_build_object('amount', 2490, 'currency', 'EUR'), 'payment_token', 'tok_ok'), repeat('t', 55), id(0)::text, 1, now() + interval '2.5 seconds', now(), now(), now());
INSERT INTO shop_order.saga_log (saga_id, n, epoch, owner, at, step, event, detail)
    SELECT id(:n), (SELECT coalesce(max(n), 0) + 1 FROM shop_order.saga_log WHERE saga_id = id(:n)), 1, owner, now(), '', 'started', '' FROM shop_order.sagas WHERE saga_id = id(:n);
INSERT INTO shop_order.outbox (event_id, aggregate, version, kind, schema, payload, occurred_at, traceparent)
    VALUES (id(:placed), id(:n), 1, 'order.placed', 1, repeat('p', :order_bytes)::bytea, now(), repeat('t', 55));
UPDATE shop_order.idempotency SET response = repeat('r', 16)::bytea WHERE caller = id(:client_id)::text AND key = id(:n)::text;
COMMIT;

-- inventory: reserved.
BEGIN;
INSERT INTO shop_inventory.reservations (reservation_id, state, created_at, updated_at) VALUES (id(:n), 'reserved', now(), now()) ON CONFLICT DO NOTHING;
SELECT product_id, on_hand, reserved, version FROM shop_inventory.stock WHERE product_id = id(:product) FOR UPDATE;
UPDATE shop_inventory.reservations SET state = 'reserved', updated_at = now() WHERE reservation_id = id(:n);
INSERT INTO shop_inventory.reservation_lines (reservation_id, product_id, quantity, short_of) VALUES (id(:n), id(:product), 1, NULL);
UPDATE shop_inventory.stock SET on_hand = on_hand, reserved = reserved + 1, version = version + 1 WHERE product_id = id(:product);
INSERT INTO shop_inventory.outbox (event_id, aggregate, version, kind, schema, payload, occurred_at, traceparent)
    VALUES (id(:n), id(:product), 1, 'stock.reserved', 1, repeat('p', :stock_bytes)::bytea, now(), repeat('t', 55));
COMMIT;

-- order: reserving is done.
BEGIN;
SELECT saga_id, kind, version, phase, step, uncertain, parked, attempt, reason_code, reason_detail, cancel_code, last_error, data, traceparent, owner, epoch, started_at, step_since, updated_at
    FROM shop_order.sagas WHERE saga_id = id(:n) AND epoch = 1 FOR UPDATE;
SELECT order_id, customer_id, customer_name, total, currency, state, failure_reason, failure_message, version, created_at, updated_at FROM shop_order.orders WHERE order_id = id(:n) FOR UPDATE;
SELECT product_id, product_name, quantity, amount FROM shop_order.order_lines WHERE order_id = id(:n) ORDER BY line;
UPDATE shop_order.orders SET state = 'processing', failure_reason = NULL, failure_message = NULL, version = 2, updated_at = now() WHERE order_id = id(:n);
INSERT INTO shop_order.saga_log (saga_id, n, epoch, owner, at, step, event, detail)
    SELECT id(:n), (SELECT coalesce(max(n), 0) + 1 FROM shop_order.saga_log WHERE saga_id = id(:n)), 1, owner, now(), 'reserve', 'done', '' FROM shop_order.sagas WHERE saga_id = id(:n);
UPDATE shop_order.sagas SET phase = 'processing', step = 1, uncertain = false, parked = false, attempt = 0, reason_code = NULL, reason_detail = NULL, last_error = NULL, due_at = now() + interval '2.5 seconds', step_since = now(), updated_at = now()
    WHERE saga_id = id(:n) AND epoch = 1;
COMMIT;

-- payment: what is about to be asked.
BEGIN;
INSERT INTO shop_payment.payments (payment_id, request, customer_id, minor_units, currency, state, version, created_at, updated_at)
    VALUES (id(:n), repeat('f', 32)::bytea, id(:client_id), 2490, 'EUR', 'pending', 1, now(), now()) ON CONFLICT DO NOTHING;
COMMIT;

-- The bank: charged.
BEGIN;
INSERT INTO shop_bank.charges (charge_key, minor_units, currency, state, reference, decline_reason) VALUES (id(:n), 2490, 'EUR', 'taken', 'ch_' || id(:n)::text, NULL) ON CONFLICT DO NOTHING;
INSERT INTO shop_bank.movements (charge_key, minor_units, currency, moved_at) VALUES (id(:n), 2490, 'EUR', now());
COMMIT;

-- payment: the answer.
BEGIN;
UPDATE shop_payment.payments SET state = 'charged', version = version + 1, updated_at = now(), provider_reference = 'ch_' || id(:n)::text
    WHERE payment_id = id(:n) AND version = 1;
INSERT INTO shop_payment.outbox (event_id, aggregate, version, kind, schema, payload, occurred_at, traceparent)
    VALUES (id(:n), id(:n), 2, 'payment.charged', 1, repeat('p', :payment_bytes)::bytea, now(), repeat('t', 55));
COMMIT;

-- order: charging is done.
BEGIN;
SELECT saga_id, kind, version, phase, step, uncertain, parked, attempt, reason_code, reason_detail, cancel_code, last_error, data, traceparent, owner, epoch, started_at, step_since, updated_at
    FROM shop_order.sagas WHERE saga_id = id(:n) AND epoch = 1 FOR UPDATE;
SELECT order_id, customer_id, customer_name, total, currency, state, failure_reason, failure_message, version, created_at, updated_at FROM shop_order.orders WHERE order_id = id(:n) FOR UPDATE;
SELECT product_id, product_name, quantity, amount FROM shop_order.order_lines WHERE order_id = id(:n) ORDER BY line;
INSERT INTO shop_order.saga_log (saga_id, n, epoch, owner, at, step, event, detail)
    SELECT id(:n), (SELECT coalesce(max(n), 0) + 1 FROM shop_order.saga_log WHERE saga_id = id(:n)), 1, owner, now(), 'charge', 'done', '' FROM shop_order.sagas WHERE saga_id = id(:n);
UPDATE shop_order.sagas SET phase = 'processing', step = 2, uncertain = false, parked = false, attempt = 0, reason_code = NULL, reason_detail = NULL, last_error = NULL, due_at = now() + interval '2.5 seconds', step_since = now(), updated_at = now()
    WHERE saga_id = id(:n) AND epoch = 1;
COMMIT;

-- order: completed.
BEGIN;
SELECT saga_id, kind, version, phase, step, uncertain, parked, attempt, reason_code, reason_detail, cancel_code, last_error, data, traceparent, owner, epoch, started_at, step_since, updated_at
    FROM shop_order.sagas WHERE saga_id = id(:n) AND epoch = 1 FOR UPDATE;
SELECT order_id, customer_id, customer_name, total, currency, state, failure_reason, failure_message, version, created_at, updated_at FROM shop_order.orders WHERE order_id = id(:n) FOR UPDATE;
SELECT product_id, product_name, quantity, amount FROM shop_order.order_lines WHERE order_id = id(:n) ORDER BY line;
UPDATE shop_order.orders SET state = 'completed', failure_reason = NULL, failure_message = NULL, version = 3, updated_at = now() WHERE order_id = id(:n);
INSERT INTO shop_order.outbox (event_id, aggregate, version, kind, schema, payload, occurred_at, traceparent)
    VALUES (id(:completed), id(:n), 3, 'order.completed', 1, repeat('p', :order_bytes)::bytea, now(), repeat('t', 55));
INSERT INTO shop_order.saga_log (saga_id, n, epoch, owner, at, step, event, detail)
    SELECT id(:n), (SELECT coalesce(max(n), 0) + 1 FROM shop_order.saga_log WHERE saga_id = id(:n)), 1, owner, now(), 'confirm', 'completed', '' FROM shop_order.sagas WHERE saga_id = id(:n);
UPDATE shop_order.sagas SET phase = 'completed', step = 2, uncertain = false, parked = false, attempt = 0, reason_code = NULL, reason_detail = NULL, last_error = NULL, due_at = NULL, step_since = now(), updated_at = now(), owner = NULL
    WHERE saga_id = id(:n) AND epoch = 1;
COMMIT;
