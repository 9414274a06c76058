// Ingest keeps what is gossiped on some topics in an SQLite database, each message exactly once.
//
//	go run . DATABASE TOPIC...
//
// The subscription's cursor is written in the same transaction as the messages before it: whatever is killed whenever,
// the next start continues behind the last message that the database has. What the sidecar could not keep meanwhile is
// written down too, in the table gaps. SIDECAR_API says where the sidecar is.
//
// It is a module of its own, so that apps that use the client do not get SQLite with it.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

const schema = `
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY,  -- in order of arrival
    topic TEXT NOT NULL,
    message_id BLOB NOT NULL,
    sender TEXT NOT NULL,
    data BLOB NOT NULL,
    receive_time REAL NOT NULL,
    UNIQUE (topic, message_id)  -- a sidecar that has restarted may bring what its predecessor brought
);
CREATE TABLE IF NOT EXISTS gaps (behind INTEGER NOT NULL, missed INTEGER, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS place (topics TEXT PRIMARY KEY, cursor BLOB NOT NULL);
`

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: ingest DATABASE TOPIC...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := ingest(ctx, os.Args[1], os.Args[2:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		os.Exit(1)
	}
}

func ingest(ctx context.Context, path string, topics []string) (err error) {
	kept, err := open(path, topics)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.database.Close()) }()
	cursor, err := kept.cursor()
	if err != nil {
		return err
	}
	node, err := sidecar.Connect(ctx, sidecar.WithWait(time.Minute))
	if err != nil {
		return err
	}
	defer node.Close()
	news, err := node.Subscribe(ctx, topics, sidecar.WithCursor(cursor))
	if err != nil {
		return err
	}
	if cursor == nil { // from here on nothing is missed, though no message has come yet
		if err := kept.keep(nil, news.Cursor()); err != nil {
			return err
		}
	}
	fmt.Printf("keeping %s in %s\n", strings.Join(topics, ", "), path)
	// While a batch is being written, the next ones wait in the sidecar.
	for batch, err := range news.Batches() {
		if err != nil {
			return err
		}
		if err := kept.keep(batch, news.Cursor()); err != nil {
			return err
		}
	}
	return nil
}

// store is the database.
type store struct {
	database *sql.DB
	topics   string // a cursor belongs to what was subscribed to
}

func open(path string, topics []string) (*store, error) {
	name := url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: url.Values{
		"_pragma": {"busy_timeout(10000)", "journal_mode(wal)"},
		"_txlock": {"immediate"},
	}.Encode()}
	database, err := sql.Open("sqlite3", name.String())
	if err != nil {
		return nil, err
	}
	if _, err := database.Exec(schema); err != nil {
		return nil, errors.Join(err, database.Close())
	}
	return &store{database, strings.Join(topics, "\n")}, nil
}

// cursor is behind the last message kept; nil in a new database.
func (s *store) cursor() ([]byte, error) {
	var cursor []byte
	err := s.database.QueryRow("SELECT cursor FROM place WHERE topics = ?", s.topics).Scan(&cursor)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return cursor, err
}

// keep writes a batch, if there is one, and the place behind it: both or neither. It is not cancelled in the middle.
func (s *store) keep(batch *sidecar.Batch[sidecar.Message], cursor []byte) error {
	transaction, err := s.database.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = transaction.Rollback() }() // nothing, once it is committed
	if batch != nil {
		if err := write(transaction, batch); err != nil {
			return err
		}
	}
	if _, err := transaction.Exec("INSERT OR REPLACE INTO place VALUES (?, ?)", s.topics, cursor); err != nil {
		return err
	}
	return transaction.Commit()
}

func write(transaction *sql.Tx, batch *sidecar.Batch[sidecar.Message]) error {
	if lagged := batch.Lagged(); lagged != nil {
		missed := sql.NullInt64{Int64: int64(lagged.Missed), Valid: lagged.Known}
		const gap = "INSERT INTO gaps SELECT coalesce(max(number), 0), ?, ? FROM messages"
		if _, err := transaction.Exec(gap, missed, lagged.Reason.String()); err != nil {
			return err
		}
	}
	insert, err := transaction.Prepare(
		"INSERT OR IGNORE INTO messages (topic, message_id, sender, data, receive_time) VALUES (?, ?, ?, ?, ?)")
	if err != nil {
		return err
	}
	defer insert.Close()
	for message := range batch.Messages() {
		data := message.Data
		if data == nil {
			data = []byte{} // nil would be NULL
		}
		seconds := float64(message.ReceiveTime.UnixNano()) / 1e9
		if _, err := insert.Exec(message.Topic, message.MessageID, message.Sender, data, seconds); err != nil {
			return err
		}
	}
	return nil
}
