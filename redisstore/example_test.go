package redisstore_test

import (
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
}

// A second service on the same Redis.
func ExampleOptions() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
	store, err := redisstore.New(client, &redisstore.Options{Prefix: "billing:grantexhook:"})
	if err != nil {
		log.Fatal(err)
	}
	_ = store
}
