package androidx.lifecycle;

public abstract class Lifecycle { public enum State { STARTED } }
