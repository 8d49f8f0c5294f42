"""Station 3: typed entities in one DynamoDB table."""
