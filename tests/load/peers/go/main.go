// The purchase endpoint with net/http and redigo, on two threads. `peer PORT REDIS_SOCKET LUA_FILE`.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

type attempt struct {
	UserID string `json:"userId"`
}

type answer struct {
	Success        bool   `json:"success"`
	Message        string `json:"message"`
	RemainingStock int64  `json:"remainingStock"`
	Code           string `json:"code"`
	OrderID        string `json:"orderId,omitempty"`
	PurchaseTime   string `json:"purchaseTime,omitempty"`
}

type status struct {
	Status         string `json:"status"`
	StartTime      string `json:"startTime"`
	EndTime        string `json:"endTime"`
	RemainingStock int64  `json:"remainingStock"`
	ServerTime     string `json:"serverTime"`
}

var httpStatus = map[string]int{"purchased": 200, "replayed": 200, "idempotency_key_reused": 422}

func main() {
	runtime.GOMAXPROCS(2)
	port, socket, luaFile := os.Args[1], os.Args[2], os.Args[3]
	lua, err := os.ReadFile(luaFile)
	if err != nil {
		log.Fatal(err)
	}
	script := redis.NewScript(5, string(lua))
	pool := &redis.Pool{
		MaxIdle: 256, MaxActive: 256, Wait: true,
		Dial: func() (redis.Conn, error) { return redis.Dial("unix", socket) },
	}
	http.HandleFunc("/api/sale/purchase", func(w http.ResponseWriter, r *http.Request) { purchase(w, r, pool, script) })
	http.HandleFunc("/api/sale/status", func(w http.ResponseWriter, r *http.Request) { saleStatus(w, pool) })
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}

func purchase(w http.ResponseWriter, r *http.Request, pool *redis.Pool, script *redis.Script) {
	if r.Method != http.MethodPost {
		respond(w, http.StatusMethodNotAllowed, answer{Code: "method_not_allowed"})
		return
	}
	var wanted attempt
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8192)).Decode(&wanted)
	user := strings.TrimSpace(wanted.UserID)
	if err != nil || user == "" || len(user) > 254 {
		respond(w, http.StatusBadRequest, answer{Code: "invalid_request", Message: "Send a userId."})
		return
	}
	connection := pool.Get()
	defer connection.Close()
	reply, err := redis.Values(script.Do(connection, "peer:config", "peer:stock", "peer:purchases", "peer:keys",
		"peer:orders", user, r.Header.Get("Idempotency-Key")))
	if err != nil {
		respond(w, http.StatusServiceUnavailable, answer{Code: "unavailable", Message: err.Error()})
		return
	}
	outcome, _ := redis.String(reply[0], nil)
	orderID, _ := redis.String(reply[1], nil)
	remaining, _ := redis.Int64(reply[2], nil)
	body := answer{outcome == "purchased" || outcome == "replayed", outcome, remaining, outcome, orderID, ""}
	if orderID != "" {
		ms, _ := strconv.ParseInt(strings.SplitN(orderID, "-", 2)[0], 10, 64)
		body.PurchaseTime = iso(ms)
	}
	code, known := httpStatus[outcome]
	if !known {
		code = http.StatusConflict
	}
	respond(w, code, body)
}

func saleStatus(w http.ResponseWriter, pool *redis.Pool) {
	connection := pool.Get()
	defer connection.Close()
	_ = connection.Send("HMGET", "peer:config", "starts_ms", "ends_ms")
	_ = connection.Send("GET", "peer:stock")
	_ = connection.Flush()
	window, err := redis.Int64s(connection.Receive())
	stock, err2 := redis.Int64(connection.Receive())
	if err != nil || err2 != nil {
		respond(w, http.StatusServiceUnavailable, answer{Code: "unavailable"})
		return
	}
	now := time.Now().UnixMilli()
	word := "active"
	if now < window[0] {
		word = "upcoming"
	} else if now >= window[1] {
		word = "ended"
	}
	respond(w, http.StatusOK, status{word, iso(window[0]), iso(window[1]), stock, iso(now)})
}

func iso(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

func respond(w http.ResponseWriter, code int, body interface{}) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
