//! AgenticSession and ProjectSettings as people write them, and their conversion into the model
