package sidecar_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing of a client may be left when it is closed: every test closes its own.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
