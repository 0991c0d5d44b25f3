//! The RedisCluster document: types, defaults, validation, schema, and the rendering of redis.conf and users.acl.
