package mail

import "fmt"

// Reply is an SMTP reply (RFC 5321 §4.2) with its enhanced status code
// (RFC 3463). It is an error where it stands for a refusal, ours or a peer's.
type Reply struct {
	Code     int
	Enhanced [3]int // zero: none
	Text     string
}

// Error gives the reply as it stands on the wire, without the line end.
func (r *Reply) Error() string {
	if r.Enhanced == [3]int{} {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
}

// Temporary says that the same command may succeed later (RFC 5321 §4.2.1:
// 4yz is a transient negative completion).
func (r *Reply) Temporary() bool { return r.Code >= 400 && r.Code < 500 }
