package android.content;

public abstract class ContentProvider { public ContentProvider() {} }
