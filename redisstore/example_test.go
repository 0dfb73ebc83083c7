package redisstore_test

import (
	"fmt"
	"log"

	"github.com/redis/go-redis/v9"

	"grantex.dev/grantexhook/redisstore"
)

func Example() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
	store, err := redisstore.New(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	_ = store // grantexhook.Dispatcher{Store: store}

	// Output:
}

// A client that ignores deadlines is rejected.
func ExampleNew() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	_, err := redisstore.New(client, nil)
	fmt.Println(err)
	// Output:
	// redisstore: the client ignores the deadline of a context; set ContextTimeoutEnabled: true in its options
}

// A second service uses the same Redis.
func ExampleOptions() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
	store, err := redisstore.New(client, &redisstore.Options{Prefix: "billing:grantexhook:"})
	if err != nil {
		log.Fatal(err)
	}
	_ = store

	// Output:
}
